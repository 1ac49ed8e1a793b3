"""Downloads with the real huggingface_hub from a Hub on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import UserError
from shared.hub.download import Downloaded, DownloadProgress, cached_model, download_model
from shared.hub.model_files import Want
from shared.hub.names import HubName, name_of_cached, parse_hub_name
from shared.hub.settings import HubCancelledError
from tests.hub_server import TOKEN, HubServer
from tests.waiting import SECONDS, until

NAME = HubName("ada/small")
CONFIG = json.dumps({"model_type": "llama"}).encode()
WEIGHTS = random.Random(0).randbytes(1 << 20)
FILES = {
    "config.json": CONFIG,
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"a": 1}',
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": WEIGHTS,
    "README.md": b"# small",
    "pytorch_model.bin": b"a pickle",
    "onnx/model.safetensors": b"another format",
    "modeling_small.py": b"import os",
}
WANTED = {n for n in FILES if n not in ("README.md", "pytorch_model.bin", "modeling_small.py")} - {
    "onnx/model.safetensors"
}
WEIGHT_REQUEST = r"GET /cdn/"


@pytest.fixture
def cache(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of huggingface_hub, for somebody who is not logged in."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def fetch(cache: Path) -> Callable[..., Downloaded]:
    """Download `ada/small` with short waits."""

    def run(name: HubName = NAME, want: Want = Want.MODEL, **more: object) -> Downloaded:
        return download_model(name, want, waits=(0.01, 0.01), **more)  # type: ignore[arg-type]

    return run


Fetch = Callable[..., Downloaded]


def told(fetch: Fetch, *arguments: object, **more: object) -> str:
    """The one sentence with which a download fails."""
    with pytest.raises(UserError) as caught:
        fetch(*arguments, **more)
    text = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in text
    assert text.endswith(".")
    return text


def partials(cache: Path) -> list[Path]:
    return list(cache.glob("models--*/blobs/*.incomplete"))


def test_a_model_comes_with_what_it_needs_and_nothing_else(hub: HubServer, fetch: Fetch) -> None:
    repo = hub.publish("ada/small", FILES)
    got = fetch()
    assert got.name == HubName("ada/small", repo.sha)
    assert {p.name for p in got.folder.iterdir()} == WANTED
    assert (got.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert name_of_cached(got.folder) == got.name
    assert got.notes == ()
    assert hub.sent == len(WEIGHTS)


def test_what_the_cache_has_is_not_downloaded_again(hub: HubServer, fetch: Fetch) -> None:
    hub.publish("ada/small", FILES)
    pinned = fetch().name
    hub.requests.clear()
    fetch()
    assert hub.count(r"/resolve/|/cdn/") == 0
    hub.requests.clear()
    assert fetch(pinned).name == pinned
    assert hub.requests == [], "a commit that is there needs no network"


def test_a_branch_moves_and_a_commit_does_not(hub: HubServer, fetch: Fetch) -> None:
    first = hub.publish("ada/small", FILES).sha
    fetch()
    repo = hub.publish("ada/small", {**FILES, "tokenizer.json": b'{"b": 2}'})
    repo.tags["v1"] = first
    assert (fetch().folder / "tokenizer.json").read_bytes() == b'{"b": 2}'
    assert fetch(HubName("ada/small", "v1")).name.revision == first
    assert fetch(HubName("ada/small", first)).name.revision == first
    assert hub.sent == len(WEIGHTS), "the weights are the same"


def test_a_dropped_connection_is_continued(hub: HubServer, fetch: Fetch) -> None:
    hub.publish("ada/small", FILES)
    hub.fail(WEIGHT_REQUEST, cut_after=300_000)
    seen: list[DownloadProgress] = []
    got = fetch(progress=seen.append)
    assert (got.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.sent < len(WEIGHTS) + 100_000, "only what was on its way is sent twice"
    done = [p.bytes for p in seen if p.file]
    assert done == sorted(done)
    assert done[-1] == len(WEIGHTS)
    assert any("the connection dropped" in p.note for p in seen)


def test_a_cancelled_download_continues(hub: HubServer, fetch: Fetch, cache: Path) -> None:
    hub.publish("ada/small", FILES)
    cancel = threading.Event()

    def look(progress: DownloadProgress) -> None:
        if progress.bytes > 400_000:
            cancel.set()

    with pytest.raises(HubCancelledError) as caught:
        fetch(progress=look, cancel=cancel)
    assert caught.value.exit_code == 130
    (partial,) = partials(cache)
    have = partial.stat().st_size
    assert 400_000 < have < len(WEIGHTS)
    assert cached_model(NAME) is None
    hub.sent = 0
    got = fetch()
    assert (got.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.sent == len(WEIGHTS) - have
    assert partials(cache) == []


def test_damage_in_what_is_there_is_found(hub: HubServer, fetch: Fetch, cache: Path) -> None:
    hub.publish("ada/small", FILES)
    hub.fail(WEIGHT_REQUEST, cut_after=300_000)
    hub.fail(WEIGHT_REQUEST, 500, times=9)
    told(fetch)
    (partial,) = partials(cache)
    damaged = partial.read_bytes()
    partial.write_bytes(b"\0" * len(damaged))
    hub.faults.clear()
    assert (fetch().folder / "model.safetensors").read_bytes() == WEIGHTS
    assert partials(cache) == []


def test_content_that_is_not_what_was_announced(hub: HubServer, fetch: Fetch, cache: Path) -> None:
    hub.publish("ada/small", FILES)
    hub.damaged = True
    assert "does not have the content that the Hub announces" in told(fetch)
    assert cached_model(NAME) is None
    hub.damaged = False
    assert (fetch().folder / "model.safetensors").read_bytes() == WEIGHTS


def test_weights_come_from_the_chunk_store_from_where_they_stopped(
    hub: HubServer, fetch: Fetch, cache: Path, tmp_path: Path
) -> None:
    import hf_xet

    hub.xet = tmp_path / "store"
    (tmp_path / "weights").write_bytes(WEIGHTS)
    commit = hf_xet.XetSession().new_upload_commit(endpoint=f"local://{hub.xet}")
    commit.start_upload_file(str(tmp_path / "weights"), sha256=hashlib.sha256(WEIGHTS).hexdigest())
    (stored,) = commit.wait_to_finish().uploads.values()
    hub.publish("ada/small", FILES, xet_hashes={"model.safetensors": stored.xet_info.hash})
    hub.fail("xet-read-token", 503, times=9)
    assert "HTTP 503" in told(fetch)
    (partial,) = partials(cache)
    partial.write_bytes(WEIGHTS[:400_000])
    hub.faults.clear()
    seen: list[DownloadProgress] = []
    got = fetch(progress=seen.append)
    assert (got.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert next(p.bytes for p in seen if p.file) == 400_000
    assert hub.sent == 0, "nothing came over plain HTTP"


def test_a_server_that_cannot_continue_sends_it_all(
    hub: HubServer, fetch: Fetch, cache: Path
) -> None:
    hub.ranges = False
    hub.publish("ada/small", FILES)
    hub.fail(WEIGHT_REQUEST, cut_after=300_000)
    assert (fetch().folder / "model.safetensors").read_bytes() == WEIGHTS


def test_shards_come_by_their_index(hub: HubServer, fetch: Fetch) -> None:
    shards = {f"model-0000{n}-of-00002.safetensors": WEIGHTS[: n * 1000] for n in (1, 2)}
    index = {"weight_map": {"a": sorted(shards)[0], "b": sorted(shards)[1]}}
    files = {k: v for k, v in FILES.items() if k != "model.safetensors"}
    other = {"consolidated.safetensors": b"the same again"}
    whole = files | shards | other | {"model.safetensors.index.json": json.dumps(index).encode()}
    hub.publish("ada/small", whole)
    hub.fail(WEIGHT_REQUEST, cut_after=10)
    seen: list[DownloadProgress] = []
    got = fetch(progress=seen.append)
    assert {p.name for p in got.folder.glob("*.safetensors")} == set(shards)
    assert seen[-1].bytes == seen[-1].total == 3000
    index["weight_map"]["c"] = "../../escape.safetensors"
    hub.publish("ada/small", whole | {"model.safetensors.index.json": json.dumps(index).encode()})
    assert "the repository is damaged" in told(fetch)


def test_a_tokenizer_alone(hub: HubServer, fetch: Fetch) -> None:
    hub.publish("ada/small", FILES)
    got = fetch(want=Want.TOKENIZER)
    assert (got.folder / "tokenizer.json").is_file()
    assert hub.sent == 0
    assert cached_model(NAME) is None, "the model is not there"


def test_the_shape_is_looked_at_before_the_weights_come(hub: HubServer, fetch: Fetch) -> None:
    hub.publish("ada/small", FILES)

    def refuse(folder: Path) -> None:
        assert (folder / "config.json").read_bytes() == CONFIG
        raise UserError("No such model is run here.")

    assert told(fetch, check=refuse) == "No such model is run here."
    assert hub.sent == 0


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json", "pytorch_model.bin"}, "only pickle weights (pytorch_model.bin)"),
        ({"config.json", "README.md", "small-q4.gguf"}, "download small-q4.gguf"),
        ({"adapter_config.json"}, "an adapter_config.json but no adapter_model.safetensors"),
        ({"config.json", "consolidated.safetensors"}, "no model.safetensors"),
        ({"README.md"}, "no weights (1 file"),
        ({"model.safetensors"}, "no config.json"),
    ],
)
def test_repositories_that_are_no_model(
    hub: HubServer, fetch: Fetch, files: set[str], words: str
) -> None:
    hub.publish("ada/small", dict.fromkeys(files, b"x"))
    assert words in told(fetch)
    assert hub.count("/resolve/") == 0


def test_a_checksum_that_is_a_path_is_refused(hub: HubServer, fetch: Fetch, cache: Path) -> None:
    """It would be the name of a file."""
    repo = hub.publish("ada/small", FILES)
    path = "../../../"
    repo.etags["model.safetensors"] = path + "x" * (64 - len(path))
    assert "The Hub names no checksum of model.safetensors" in told(fetch)
    assert not list(cache.parent.rglob("x" * 20 + "*"))


def test_code_of_its_own_is_not_run(hub: HubServer, fetch: Fetch) -> None:
    config = json.dumps({"model_type": "llama", "auto_map": {"AutoModel": "m.Small"}}).encode()
    hub.publish("ada/small", FILES | {"config.json": config})
    (note,) = fetch().notes
    assert "auto_map" in note
    assert "not run" in note


# -- what can go wrong -------------------------------------------------------------------------


def test_nobody_has_it(hub: HubServer, fetch: Fetch) -> None:
    text = told(fetch, HubName("ada/smal"))
    assert "ada/smal is no folder here" in text
    assert "hf auth login" in text
    hub.publish("ada/small", FILES)
    assert "no branch, tag or commit 'v9'" in told(fetch, HubName("ada/small", "v9"))


def test_gated_private_and_refused(
    hub: HubServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = hub.publish("ada/small", FILES, gated=True)
    assert f"accept its terms at {hub.url}/ada/small" in told(fetch)
    repo.gated, repo.private = False, True
    assert "if it is private" in told(fetch)
    monkeypatch.setenv("HF_TOKEN", "hf_wrongButSecret")
    text = told(fetch)
    assert "does not accept the token from HF_TOKEN" in text
    assert "Secret" not in text
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch().folder.is_dir()
    assert hub.leaked == [], "the token stays with the Hub"


def test_the_server_echoes_the_token(
    hub: HubServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish("ada/small", FILES)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.fail("/api/models", 403, f"{TOKEN} may not")
    text = told(fetch)
    assert TOKEN not in text
    assert "***" in text


def test_a_busy_hub_is_waited_for(hub: HubServer, fetch: Fetch) -> None:
    hub.publish("ada/small", FILES)
    hub.fail("/api/models", 503)
    hub.fail("/resolve/", 429, headers={"retry-after": "0"})
    hub.fail(WEIGHT_REQUEST, 503)
    seen: list[DownloadProgress] = []
    fetch(progress=seen.append)
    assert sum("HTTP 429" in p.note for p in seen) == 1
    assert sum("HTTP 503" in p.note for p in seen) == 2


def test_a_hub_that_stays_busy(hub: HubServer, fetch: Fetch) -> None:
    hub.publish("ada/small", FILES)
    hub.fail("/api/models", 429, "slow down", headers={"retry-after": "3600"}, times=9)
    text = told(fetch)
    assert "too many requests (slow down)" in text
    assert "1h" in text


def test_offline(
    hub: HubServer, fetch: Fetch, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    hub.publish("ada/small", FILES)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    text = told(fetch)
    assert "HF_HUB_OFFLINE" in text
    assert "hf download ada/small" in text
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    first = fetch()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert fetch() == first
    assert hub.requests == []


def test_no_route(
    hub: HubServer, fetch: Fetch, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    hub.publish("ada/small", FILES)
    first = fetch()
    nowhere = "http://ada:s3cr%40t@127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    got = fetch()
    assert got.folder == first.folder
    assert "The cached copy is used" in got.notes[0]
    text = told(fetch, HubName("ada/other"))
    assert "refused" in text
    assert "path of a model folder" in text
    for secret in ("s3cr%40t", "s3cr@t"):
        assert secret not in text + got.notes[0]
    (first.folder / "model.safetensors").unlink()
    assert "lacks model.safetensors of ada/small" in told(fetch)


def test_a_full_disk(hub: HubServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    hub.publish("ada/small", FILES)
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    text = told(fetch)
    assert "has no room for 1.0 MiB more" in text
    assert "HF_HOME" in text
    assert hub.sent == 0


def test_what_transformers_finds_offline(hub: HubServer, fetch: Fetch, cache: Path) -> None:
    """The refs, snapshots and listing that huggingface_hub itself reads."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    hub.publish("ada/small", FILES)
    got = fetch()
    assert try_to_load_from_cache("ada/small", "config.json") == str(got.folder / "config.json")
    patterns = sorted(WANTED)
    found = snapshot_download("ada/small", local_files_only=True, allow_patterns=patterns)
    assert Path(found) == got.folder


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a/b", "Org-1/my.model_2", "a/b@main", "a/b@refs/pr/1"])
def test_names_of_the_hub(text: str) -> None:
    assert str(parse_hub_name(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a/b/c",
        "./b",
        "/a/b",
        "a/",
        "a/b@",
        "a/b@-x",
        "a/..",
        "a--b/c",
        "a/b:500",
        "a/b.gguf",
        "a/b@x..y",
        "a b/c",
        "a/b\n",
        "ä/b",
        f"a/{'b' * 96}",
        "~/b",
        "a/b@../../x",
    ],
)
def test_names_that_only_a_path_can_have(text: str) -> None:
    assert parse_hub_name(text) is None


def test_folders_outside_the_cache_have_no_name() -> None:
    for folder in ("/", "models--a--b", "models--a--b/snapshots/main", "x/snapshots/" + "a" * 40):
        assert name_of_cached(Path(folder)) is None
    commit = "0" * 40
    assert str(name_of_cached(Path(f"models--a--b/snapshots/{commit}"))) == f"a/b@{commit}"


# -- processes that end --------------------------------------------------------------------------

SCRIPT = """
import sys
from shared.hub.download import download_model
from shared.hub.names import HubName
from trainer.cli.hub.download import interruptible

interruptible(lambda cancel: download_model(HubName("ada/small"), cancel=cancel))
"""


def test_killed_and_interrupted_downloads_continue(
    hub: HubServer, fetch: Fetch, cache: Path
) -> None:
    """Both end while the Hub keeps them waiting: neither ends by itself."""
    hub.publish("ada/small", FILES)
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache)}
    have = 0
    for number in (signal.SIGKILL, signal.SIGINT):
        hold = threading.Event()
        hub.reached.clear()
        hub.fail(WEIGHT_REQUEST, cut_after=200_000, hold=hold)
        with subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment) as child:
            try:
                assert hub.reached.wait(SECONDS)
                until(lambda least=have: any(p.stat().st_size > least for p in partials(cache)))
                child.send_signal(number)
                assert child.wait(SECONDS) == -number
            finally:
                hold.set()
                child.kill()
        (partial,) = partials(cache)
        have = partial.stat().st_size
    hub.sent = 0
    assert (fetch().folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.sent == len(WEIGHTS) - have
