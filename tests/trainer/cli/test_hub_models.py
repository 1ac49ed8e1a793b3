"""Commands that are given a model of the Hub, from a Hub on this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.hub.names import HubName
from shared.run.directory import discover_runs
from shared.run.record_lines import read_records
from tests.conftest import RunCli
from tests.hub_server import HubServer

SHAPE = ("hidden_size=8", "num_layers=1", "num_heads=2", "max_seq_len=32")
SHORT = ("--max-steps", 1, "--batch-size", 1, "--seq-len", 8, "--device", "cpu", "--threads", 1)
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "generation_config.json")


@pytest.fixture(scope="module")
def model_files(
    run_cli: RunCli, token_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files of a small model with a tokenizer of bytes."""
    runs = tmp_path_factory.mktemp("runs")
    shape = [word for key in SHAPE for word in ("--set", f"model.{key}")]
    output = run_cli(
        "train",
        *SHORT,
        "--data-path",
        token_data,
        "--runs-dir",
        runs,
        *shape,
        "--config",
        "tiny-cpu",
        "--set",
        "model.num_kv_heads=2",
        "--set",
        "model.intermediate_size=16",
    )
    assert output.code == 0, output.err
    folder = discover_runs(runs)[0].checkpoints / "final"
    return {name: (folder / name).read_bytes() for name in MODEL_FILES}


@pytest.fixture
def hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model_files: dict[str, bytes]
) -> Iterator[HubServer]:
    """A Hub with `ada/small`, an empty cache, and nobody logged in; the folder here is empty."""
    from huggingface_hub import constants

    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with HubServer() as server:
        server.publish("ada/small", model_files)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        yield server


def test_a_run_begins_from_the_hub_and_records_the_commit(
    hub: HubServer, run_cli: RunCli, token_data: Path
) -> None:
    begin = ("--begin-from", "ada/small", "--data-path", token_data, "--runs-dir", "runs")
    output = run_cli("train", *begin, *SHORT, "--set", "checkpoint.interval=1000")
    assert output.code == 0, output.err
    (run,) = discover_runs(Path("runs"))
    name = HubName("ada/small", hub.repos["ada/small"].sha)
    assert f"begin_from: {name}\n" in run.config_path.read_text()
    (event,) = [e for e in read_records(run.events_path) if e["event"] == "begun_from"]
    assert event["checkpoint"] == name.short
    assert f"Weights from {name.short}" in run.log_path.read_text()
    hub.requests.clear()
    for command in (
        ("resume", run.path, "--max-steps", 2),
        ("train", "--config", run.config_path, "--runs-dir", "runs", "--max-steps", 1),
    ):
        output = run_cli(*command)
        assert output.code == 0, output.err
    assert hub.requests == [], "what the cache has needs no network"
    repeat = run_cli("runs", "command", run.path)
    assert repeat.code == 0
    assert "no longer exists" not in repeat.err


def test_every_command_that_takes_a_model(hub: HubServer, run_cli: RunCli) -> None:
    name = f"ada/small@{hub.repos['ada/small'].sha}"
    made = run_cli("generate", "ada/small", "--prompt", "import", "--max-tokens", 2, "--seed", 1)
    assert made.code == 0, made.err
    assert "downloading ada/small" in made.err
    again = run_cli(
        "generate", "--model", name, "--prompt", "import", "--max-tokens", 2, "--seed", 1
    )
    assert again.out == made.out
    Path("text.txt").write_text("import os\n" * 50)
    judged = run_cli("eval", "ada/small", "text.txt", "--json", "--no-save")
    assert judged.code == 0, judged.err
    exported = run_cli("export", "ada/small", "--hf", "folder")
    assert exported.code == 0, exported.err
    assert json.loads(Path("folder/config.json").read_bytes())["hidden_size"] == 8
    prepared = run_cli(
        "prepare-data", "--text", "text.txt", "--tokenizer", "ada/small", "--output", "data"
    )
    assert prepared.code == 0, prepared.err
    assert "vocabulary 258" in prepared.out


def test_adapters_come_with_their_base(
    hub: HubServer, run_cli: RunCli, token_data: Path, tmp_path: Path
) -> None:
    """A training script's pickles beside them do not matter."""
    commit = hub.repos["ada/small"].sha
    flags = ("--begin-from", "ada/small", "--lora", "r=2", "--data-path", token_data)
    tuned = run_cli("train", *flags, "--runs-dir", "runs", *SHORT)
    assert tuned.code == 0, tuned.err
    folder = discover_runs(Path("runs"))[0].checkpoints / "final"
    names = ("adapter_config.json", "adapter_model.safetensors")
    files = {name: (folder / name).read_bytes() for name in names}
    assert json.loads(files["adapter_config.json"])["revision"] == commit
    hub.publish("ada/tuned", {**files, "training_args.bin": b"a pickle"})
    shutil.rmtree(tmp_path / "cache")
    greedy = ("--prompt", "import", "--max-tokens", 3, "--temperature", 0, "--device", "cpu")
    ours = run_cli("generate", "ada/tuned", *greedy)
    assert ours.code == 0, ours.err
    assert "downloading ada/small" in ours.err
    hub.requests.clear()
    theirs = run_cli("generate", folder, *greedy)
    assert ours.out == theirs.out
    further = run_cli("train", "--begin-from", "ada/tuned", *flags[4:], "--runs-dir", "b", *SHORT)
    assert further.code == 0, further.err
    assert hub.count("small.*(resolve|cdn)") == 0
    own = json.loads(files["adapter_config.json"]) | {"base_model_name_or_path": "ada/loop"}
    own["revision"] = None
    files["adapter_config.json"] = json.dumps(own).encode()
    hub.publish("ada/loop", files)
    looped = run_cli("generate", "ada/loop", *greedy)
    assert looped.code == 2
    assert "The base model of" in looped.err


def test_what_is_here_wins(hub: HubServer, run_cli: RunCli) -> None:
    Path("ada/small").mkdir(parents=True)
    output = run_cli("generate", "ada/small", "--prompt", "x")
    assert output.code == 2
    assert "is not a checkpoint" in output.err
    output = run_cli("generate", "runs/small", "--prompt", "x")
    assert output.code == 2
    assert "There is no checkpoint at runs/small" in output.err
    assert hub.requests == []


def test_a_model_that_is_not_run_here(
    hub: HubServer, run_cli: RunCli, model_files: dict[str, bytes]
) -> None:
    config = {**json.loads(model_files["config.json"]), "model_type": "odd"}
    config["auto_map"] = {"AutoModelForCausalLM": "modeling.Odd"}
    hub.publish("ada/odd", {**model_files, "config.json": json.dumps(config).encode()})
    output = run_cli("train", "--begin-from", "ada/odd", "--data-path", "data")
    assert output.code == 2
    assert output.err.count("\n") == 1
    assert "The config.json of odd has model_type 'odd'" in output.err
    assert "code of its own, which is not run" in output.err
    assert hub.sent == 0, "its weights are not downloaded"


def test_a_cache_that_is_gone(hub: HubServer, run_cli: RunCli, token_data: Path) -> None:
    """A queued run begins later, perhaps where the model is not."""
    begin = ("--begin-from", "ada/small", "--data-path", token_data, "--runs-dir", "runs")
    assert run_cli("train", *begin, *SHORT, "--queue").code == 0
    (run,) = discover_runs(Path("runs"))
    shutil.rmtree(Path("../cache"))
    output = run_cli("resume", run.path)
    assert output.code == 2
    commit = hub.repos["ada/small"].sha
    assert f"hf download ada/small --revision {commit}" in output.err
