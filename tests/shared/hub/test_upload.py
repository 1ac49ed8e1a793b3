"""A real checkpoint, the real client, a server that speaks the Hub's protocol."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from shared.checkpoints.catalogue import in_use, is_in_use
from shared.checkpoints.compression import pack_checkpoint
from shared.checkpoints.manifest import verify_folder
from shared.control.idle_run import IdleRun
from shared.control.requests import pending
from shared.errors import RunError, UserError
from shared.hub.record import serve_uploaded
from shared.hub.settings import UploadCancelledError, UploadProgress, UploadSettings
from shared.hub.upload import plan_upload, serve_upload, upload_checkpoint
from shared.run.directory import RunDirectory
from shared.run.record_lines import read_records
from shared.run_writer import RunWriter
from tests.hub_server import TOKEN, HubServer, Repo
from tests.shared.hub.conftest import Upload
from tests.waiting import SECONDS

NAME = "ada/tiny"
SENT = {
    "README.md",
    "config.json",
    "generation_config.json",
    "loss_curve.png",
    "merges.txt",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
}
WEIGHTS = r"PUT /lfs/"


def uploads(run: RunDirectory) -> list[dict[str, Any]]:
    return [event for event in read_records(run.events_path) if event["event"] == "uploaded"]


# -- the way it should be ----------------------------------------------------------------------


def test_a_checkpoint_becomes_a_private_model_repository(
    run: RunDirectory, hub: HubServer, upload: Upload
) -> None:
    told: list[UploadProgress] = []
    uploaded = upload(told.append)
    repo = hub.repos[NAME]
    assert set(repo.files) == SENT
    assert repo.private and uploaded.private
    folder = run.checkpoints / uploaded.name
    for name in SENT - {"README.md", "loss_curve.png"}:
        assert repo.files[name] == (folder / name).read_bytes()
    assert (uploaded.repo, uploaded.url) == (NAME, f"{hub.url}/{NAME}")
    assert uploaded.revision == repo.sha
    assert uploaded.files == len(SENT)
    assert uploaded.bytes == sum(map(len, repo.files.values()))
    assert verify_folder(folder) == []
    assert len(repo.commits) == 1, "half a model was to be seen"
    stages = [progress.stage for progress in told]
    assert [s for i, s in enumerate(stages) if i == 0 or stages[i - 1] != s] == [
        "checking",
        "sending",
        "committing",
    ]
    weights = [p.file_bytes for p in told if p.stage == "sending" and p.file.startswith("model.")]
    assert weights == sorted(weights) and len(weights) > 2
    assert weights[-1] == len(repo.files["model.safetensors"])


def test_the_run_is_told(run: RunDirectory, upload: Upload) -> None:
    uploaded = upload()
    (event,) = uploads(run)
    assert {key: event[key] for key in uploaded.to_json()} == uploaded.to_json()
    assert event["step"] == 12
    state = run.read_state()
    assert state is not None and state.hub_repo == NAME
    assert state.status == "completed"
    assert upload(repo="").repo == NAME, "the repository was not remembered"


def test_transformers_loads_it_from_there_with_the_same_logits(
    run: RunDirectory, hub: HubServer, upload: Upload, tmp_path: Path
) -> None:
    import torch
    from huggingface_hub import snapshot_download
    from transformers import AutoModelForCausalLM

    from trainer.checkpoint.loading import load_model

    upload()
    place = snapshot_download(NAME, endpoint=hub.url, token=TOKEN, cache_dir=tmp_path / "cache")
    theirs, report = AutoModelForCausalLM.from_pretrained(place, output_loading_info=True)
    assert not any(report.values())
    ours = load_model(run.checkpoints / "final", torch.device("cpu")).model
    tokens = torch.arange(40)[None] % 258
    with torch.no_grad():
        difference = (theirs(tokens).logits - ours(tokens)).abs().max().item()
    assert difference < 1e-5

    card = hub.repos[NAME].files["README.md"].decode()
    snippet = card.partition("```python\n")[2].partition("```")[0]
    assert f'name = "{NAME}"' in snippet
    scope: dict[str, Any] = {}
    exec(snippet.replace(NAME, place).replace("max_new_tokens=100", "max_new_tokens=5"), scope)
    assert scope["model"].dtype == torch.float32
    assert scope["output"].shape[1] == scope["inputs"]["input_ids"].shape[1] + 5


def test_the_card_can_be_read_back(hub: HubServer, run: RunDirectory, upload: Upload) -> None:
    from huggingface_hub import ModelCard

    upload(license="MIT", language="en")
    data = ModelCard(hub.repos[NAME].files["README.md"].decode()).data.to_dict()
    assert data["license"] == "mit"
    assert data["language"] == "en"
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "text-generation"
    (entry,) = data["model-index"]
    metrics = {m["type"]: m["value"] for m in entry["results"][0]["metrics"]}
    last = list(read_records(run.metrics_path))[-1]
    assert metrics == {
        "loss": pytest.approx(last["val_loss"], abs=1e-5),
        "perplexity": pytest.approx(last["val_perplexity"], abs=1e-3),
        "bits_per_byte": pytest.approx(last["val_bits_per_byte"], abs=1e-5),
    }


def test_what_the_hub_has_is_not_sent_again(hub: HubServer, upload: Upload) -> None:
    assert upload().sent > 0
    before, revision = hub.received, hub.repos[NAME].sha
    again = upload()
    assert again.sent == 0
    assert hub.received == before
    assert again.revision == revision, "a commit was made of nothing"


def test_another_checkpoint_of_the_same_run(hub: HubServer, upload: Upload) -> None:
    upload()
    assert upload(checkpoint="4").name == "step_4"
    assert len(hub.repos[NAME].commits) == 2
    assert b"step 4" in hub.repos[NAME].files["README.md"]


def test_a_packed_checkpoint_goes_up_unpacked(
    run: RunDirectory, hub: HubServer, upload: Upload
) -> None:
    weights = (run.checkpoints / "step_8" / "model.safetensors").read_bytes()
    pack_checkpoint(run.checkpoints / "step_8")
    assert not (run.checkpoints / "step_8" / "model.safetensors").exists()
    plan = plan_upload(run, UploadSettings(checkpoint="step_8", repo="tiny"))
    assert {file.name: file.bytes for file in plan.files}["model.safetensors"] == len(weights)
    upload(checkpoint="step_8")
    assert hub.repos[NAME].files["model.safetensors"] == weights
    assert set(hub.repos[NAME].files) == SENT


def test_the_optimizer_goes_up_when_asked_and_goes_away_again(
    run: RunDirectory, hub: HubServer, upload: Upload
) -> None:
    upload(with_optimizer=True)
    more = {"optimizer.safetensors", "trainer_state.json", "meta.json"}
    assert set(hub.repos[NAME].files) == SENT | more
    assert str(run.path.parent).encode() not in b"".join(hub.repos[NAME].files.values())
    meta = json.loads(hub.repos[NAME].files["meta.json"])
    assert meta["config"]["data"]["path"] is None
    assert meta["config"]["optim"]["learning_rate"] == 6e-4
    upload(checkpoint="4")
    assert set(hub.repos[NAME].files) == SENT, "an optimizer of another step was left there"


def test_the_plan_sends_nothing(run: RunDirectory, hub: HubServer) -> None:
    plan = plan_upload(run, UploadSettings(repo="tiny"))
    assert {file.name for file in plan.files} == SENT
    assert plan.bytes == sum(file.bytes for file in plan.files)
    assert hub.requests == []


def test_nobody_prunes_what_goes_up(run: RunDirectory, hub: HubServer, upload: Upload) -> None:
    held = hub.fail(WEIGHTS, hold=threading.Event())
    worker = threading.Thread(target=upload, kwargs={"checkpoint": "4"})
    worker.start()
    assert hub.reached.wait(SECONDS)
    assert is_in_use(run.checkpoints / "step_4")
    # A trainer's retention does not ask. What is open stays.
    shutil.rmtree(run.checkpoints / "step_4")
    assert held.hold is not None
    held.hold.set()
    worker.join(SECONDS)
    assert set(hub.repos[NAME].files) == SENT


def test_a_folder_without_a_run(run: RunDirectory, hub: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "alone" / "step_4"
    shutil.copytree(run.checkpoints / "step_4", folder)
    uploaded = upload_checkpoint(folder, UploadSettings(repo="lab/alone"))
    assert uploaded.repo == "lab/alone"
    assert set(hub.repos["lab/alone"].files) == SENT - {"loss_curve.png"}
    assert b"perplexity" in hub.repos["lab/alone"].files["README.md"]


# -- a bad network -----------------------------------------------------------------------------


def test_a_dropped_connection_is_taken_up_again(hub: HubServer, upload: Upload) -> None:
    told: list[UploadProgress] = []
    hub.fail(WEIGHTS, drop_after=100_000)
    upload(told.append)
    assert set(hub.repos[NAME].files) == SENT
    notes = [progress.note for progress in told if progress.stage == "waiting"]
    assert len(notes) == 1 and "the connection dropped" in notes[0]


def test_a_large_file_in_parts_repeats_only_the_part(hub: HubServer, upload: Upload) -> None:
    hub.multipart = 30_000
    hub.fail(r"PUT /lfs/\w+/3", drop_after=10_000)
    upload()
    files = hub.repos[NAME].files
    sizes = [len(files[name]) for name in ("model.safetensors", "loss_curve.png")]
    parts = [-(-size // 30_000) for size in sizes if size > 30_000]
    assert parts[0] > 4
    assert hub.count(r"PUT /lfs/\w+/") == sum(parts) + 1


def test_an_upload_that_failed_goes_on_where_it_was(hub: HubServer, upload: Upload) -> None:
    fault = hub.fail(r"POST /api/models/.*/commit", drop_after=0, times=9)
    with pytest.raises(RunError, match=r"cannot be reached: the connection broke .* then try"):
        upload()
    assert hub.repos[NAME].commits == []
    sent = hub.received
    fault.times = 0
    assert upload().sent == 0
    assert hub.received == sent
    assert set(hub.repos[NAME].files) == SENT


def test_a_commit_whose_answer_got_lost_is_made_once(hub: HubServer, upload: Upload) -> None:
    hub.fail(r"POST /api/models/.*/commit", lose_answer=True)
    uploaded = upload()
    assert len(hub.repos[NAME].commits) == 1
    assert uploaded.revision == hub.repos[NAME].sha


@pytest.mark.parametrize(
    ("match", "status"),
    [
        (WEIGHTS, 500),
        ("preupload", 429),
        ("batch", 502),
        ("create", 503),
        ("commit", 500),
        ("whoami", 504),
    ],
)
def test_a_server_that_stumbles_once(
    hub: HubServer, upload: Upload, match: str, status: int
) -> None:
    hub.fail(match, status, "busy")
    if match == "whoami":  # who cannot even begin is told at once
        with pytest.raises(RunError):
            upload()
        return
    upload()
    assert set(hub.repos[NAME].files) == SENT


def test_the_hub_says_how_long_to_wait(hub: HubServer, upload: Upload) -> None:
    hub.fail("preupload", 429, "slow down", headers={"retry_after": "1000"})
    with pytest.raises(RunError, match=r"too many requests \(slow down\); try again in 16m40s"):
        upload()


@pytest.mark.parametrize("match", ["whoami", "preupload", "create", "commit", r"PUT /lfs/"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_respected_for_every_request(
    hub: HubServer, upload: Upload, match: str, status: int
) -> None:
    told: list[UploadProgress] = []
    hub.fail(match, status, "busy", headers={"retry_after": "1"})
    upload(told.append)
    notes = [progress.note for progress in told if progress.stage == "waiting"]
    assert notes == [f"the Hub answers HTTP {status}; trying again in 1s"]
    assert set(hub.repos[NAME].files) == SENT


def test_a_commit_that_must_wait_too_long_says_so(hub: HubServer, upload: Upload) -> None:
    hub.fail("commit", 429, "slow down", headers={"retry_after": "1000"})
    with pytest.raises(RunError, match=r"too many requests \(slow down\); try again in 16m40s"):
        upload()


def test_retry_after_may_be_a_date() -> None:
    import httpx2

    from shared.hub.client import asked_to_wait

    for text, least, most in (
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0, 0.0),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 1e9, 1e10),
        ("soon", 0.0, 0.0),
        ("7", 7.0, 7.0),
    ):
        response = httpx2.Response(503, headers={"retry-after": text})
        assert least <= asked_to_wait(response) <= most, text


# -- cancelling --------------------------------------------------------------------------------


def test_cancelled_in_the_middle_of_a_file(hub: HubServer, upload: Upload) -> None:
    cancel, seen = threading.Event(), []

    def stop(progress: UploadProgress) -> None:
        if progress.file.startswith("model.") and progress.stage == "sending":
            seen.append(progress)
            if progress.file_bytes:
                cancel.set()

    with pytest.raises(UploadCancelledError, match="the repository is unchanged"):
        upload(stop, cancel)
    assert seen[-1].file_bytes < seen[-1].file_total
    assert hub.repos[NAME].files == {}
    assert hub.received < seen[-1].file_total


def test_cancelled_while_it_waits(hub: HubServer, upload: Upload) -> None:
    cancel = threading.Event()

    def stop(progress: UploadProgress) -> None:
        if progress.stage == "waiting":
            cancel.set()

    hub.fail(WEIGHTS, 503, times=99)
    with pytest.raises(UploadCancelledError):
        upload(stop, cancel, waits=(3600.0,))


def test_cancelled_before_anything(run: RunDirectory, hub: HubServer, upload: Upload) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(UploadCancelledError):
        upload(cancel=cancel)
    assert hub.repos == {}
    assert uploads(run) == []


# -- refusals ----------------------------------------------------------------------------------

FAULTS = [
    ("whoami", 401, "", "does not accept the token from HF_TOKEN; make one with write access"),
    ("create", 403, "You don't have the rights", "You may not write to ada/tiny: You don't have"),
    (
        "commit",
        403,
        "Private storage limit reached",
        "accepts no more data for ada: Private storage",
    ),
    (
        "batch",
        402,
        "Payment required",
        "accepts no more data for ada: Payment required for .*; make room",
    ),
    (WEIGHTS, 403, "expired", "You may not write to ada/tiny: expired"),
    ("preupload", 404, "gone", "There is no repository ada/tiny that you can see: gone"),
    ("create", 400, "Invalid name", "The Hub refuses this: Invalid name"),
    ("commit", 418, "teapot", "answers HTTP 418: teapot"),
    ("preupload", 503, "down", r"fails \(HTTP 503 \(down for .*\)\); try again later"),
    (
        "commit",
        412,
        "moved on",
        "was changed by someone else during the upload: moved on for .*; try again",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0]}-{fault[1]}")
def test_every_refusal_is_one_sentence(
    hub: HubServer, upload: Upload, fault: tuple[str, int, str, str]
) -> None:
    match, status, message, told = fault
    hub.fail(match, status, f"{message} for {TOKEN}", times=99)
    with pytest.raises(UserError, match=told) as caught:
        upload()
    text = str(caught.value)
    assert TOKEN not in text
    assert "\n" not in text and text.endswith(".")
    assert hub.repos.get(NAME, Repo(True)).files == {}


def test_not_logged_in(
    hub: HubServer, upload: Upload, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"not logged in to the Hub: run `hf auth login` once"):
        upload()
    assert hub.requests == []
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert upload(token_file=file).repo == NAME
    for content in ("", "two words", "Ünicode"):
        file.write_text(content)
        with pytest.raises(UserError, match="does not contain a token"):
            upload(token_file=file)


def test_a_token_that_may_only_read(hub: HubServer, upload: Upload) -> None:
    hub.role = "read"
    with pytest.raises(UserError, match="is read-only; make one with write access"):
        upload()
    assert hub.count("POST") == 0


def test_offline(hub: HubServer, upload: Upload, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        upload()
    assert hub.requests == []


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("http://127.0.0.1:1", "connection is refused"),
        ("http://no.such.host.invalid", "name cannot be resolved"),
    ],
)
def test_nobody_there(upload: Upload, endpoint: str, told: str) -> None:
    with pytest.raises(RunError, match=told):
        upload(endpoint=endpoint, waits=(60.0,))  # told at once, not after a minute


@pytest.mark.parametrize("name", ["a--b", "a/b/c", "spa ce", ".git", "x" * 200, "ada/\x1b[31m"])
def test_a_wrong_name(hub: HubServer, upload: Upload, name: str) -> None:
    with pytest.raises(UserError, match="is not a valid repository name") as caught:
        upload(repo=name)
    assert "\x1b" not in str(caught.value)
    assert hub.count("POST") == 0


def test_no_name_at_all(upload: Upload) -> None:
    with pytest.raises(UserError, match="name one with --repo"):
        upload(repo="")


def test_the_namespace_of_another(upload: Upload) -> None:
    with pytest.raises(UserError, match="You may not write to eve/tiny: You don't have the rights"):
        upload(repo="eve/tiny")


def test_a_license_that_is_none(hub: HubServer, upload: Upload) -> None:
    with pytest.raises(
        UserError, match=r"The Hub refuses the model card: .license. must be one of"
    ):
        upload(license="wtf")
    assert hub.repos == {}
    with pytest.raises(UserError, match="--license is"):
        upload(license="mit\n---\n# owned")


def test_a_damaged_checkpoint_is_refused_before_anything_is_sent(
    run: RunDirectory, hub: HubServer, upload: Upload
) -> None:
    weights = run.checkpoints / "step_4" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(
        RunError, match=r"step_4 is damaged: .*model.safetensors does not match its"
    ):
        upload(checkpoint="4")
    weights.write_bytes(data[:-1])
    with pytest.raises(RunError, match=r"has 1?[0-9]+ bytes instead of"):
        upload(checkpoint="4")
    assert hub.repos == {}
    assert upload(checkpoint="8").name == "step_8"


# -- what is there already ---------------------------------------------------------------------


def test_nothing_becomes_public_unasked(hub: HubServer, upload: Upload) -> None:
    hub.repos[NAME] = Repo(private=False)
    with pytest.raises(UserError, match="exists and is public: give --public"):
        upload()
    assert hub.repos[NAME].files == {}
    assert not upload(private=False).private


def test_public_when_asked(hub: HubServer, upload: Upload) -> None:
    assert not upload(private=False).private
    assert not hub.repos[NAME].private


def test_a_private_repository_stays_so(hub: HubServer, upload: Upload) -> None:
    upload()
    uploaded = upload(private=False)
    assert uploaded.private and hub.repos[NAME].private
    assert "stays private" in uploaded.notes[0]


def test_the_model_of_another_is_not_written_over(hub: HubServer, upload: Upload) -> None:
    foreign = {"pytorch_model.bin": b"x", "README.md": b"# mine"}
    hub.repos[NAME] = Repo(private=True, files=dict(foreign))
    with pytest.raises(UserError, match="that this program did not upload"):
        upload()
    assert hub.repos[NAME].files == foreign
    upload(overwrite=True)
    assert set(hub.repos[NAME].files) >= SENT


def test_a_card_that_a_person_edited_is_left_alone(hub: HubServer, upload: Upload) -> None:
    upload()
    files = hub.repos[NAME].files
    edited = files["README.md"].replace(b"library_name", b"license: mit\nlibrary_name")
    files["README.md"] = edited
    uploaded = upload(checkpoint="4")
    assert hub.repos[NAME].files["README.md"] == edited
    assert "README.md was edited on the Hub" in uploaded.notes[0]
    upload(checkpoint="4", overwrite=True)
    assert b"step 4" in hub.repos[NAME].files["README.md"]


def test_the_license_stays(hub: HubServer, upload: Upload) -> None:
    upload(license="mit")
    upload(checkpoint="4")
    assert b"license: mit" in hub.repos[NAME].files["README.md"]


# -- runs that live, requests ------------------------------------------------------------------


def test_a_living_run_is_asked_to_write_it_down(
    run: RunDirectory, hub: HubServer, upload: Upload
) -> None:
    with RunWriter(run=run) as writer:
        upload()
        assert uploads(run) == [], "somebody else wrote into a living run's record"
        (request,) = pending(run.control)
        assert request.action == "uploaded"
        message = serve_uploaded(request.arguments, writer.event, writer.update)
        writer.answer(request, ok=True, message=message)
        assert writer.state.hub_repo == NAME
    (event,) = uploads(run)
    assert event["repo"] == NAME
    state = run.read_state()
    assert state is not None and state.hub_repo == NAME


def test_the_record_of_a_run_that_died_meanwhile(run: RunDirectory, upload: Upload) -> None:
    record = upload().to_json()
    with IdleRun(run) as idle:
        answer = serve_uploaded({**record, "repo": "lab/other"}, idle.event, idle.update)
    assert answer == f"{record['name']} is at {record['url']}"
    state = run.read_state()
    assert state is not None and state.hub_repo == "lab/other"
    assert len(uploads(run)) == 2


@pytest.mark.parametrize(
    "arguments", [{}, {"name": "x"}, {"files": "9"}, {"repo": "a", "extra": 1}]
)
def test_a_record_that_is_none_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="is not the record of an upload"):
        serve_uploaded(arguments, pytest.fail, pytest.fail)


def test_a_run_that_cannot_be_written_is_no_failure(
    run: RunDirectory, hub: HubServer, upload: Upload
) -> None:
    run.events_path.unlink()
    run.events_path.mkdir()
    uploaded = upload()
    assert "could not be written into" in uploaded.notes[-1]
    assert set(hub.repos[NAME].files) == SENT


def test_serving_a_request(run: RunDirectory, hub: HubServer) -> None:
    asked = UploadSettings(checkpoint="step_8", repo="tiny", license="mit").to_arguments()
    answer = serve_upload(run, json.loads(json.dumps(asked)))
    assert answer == f"step_8 is at {hub.url}/{NAME} (private, 9 files)"
    assert uploads(run)[0]["name"] == "step_8"


@pytest.mark.parametrize(
    "arguments",
    [
        {"endpoint": "http://evil"},
        {"token_file": "/etc/passwd"},
        {"work_dir": "/"},
        {"private": "no"},
        {"repo": 3},
        {"waits": []},
    ],
)
def test_a_request_cannot_say_where_the_token_goes(
    run: RunDirectory, hub: HubServer, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match="is not a valid upload request"):
        serve_upload(run, arguments)
    assert hub.requests == []


def test_the_token_is_nowhere(
    run: RunDirectory, hub: HubServer, upload: Upload, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[UploadProgress] = []
    hub.fail(WEIGHTS, drop_after=1000)
    hub.fail("commit", 500, TOKEN)
    uploaded = upload(told.append)
    out, err = capfd.readouterr()
    assert out == err == "", "huggingface_hub talks over the screen"
    assert TOKEN not in repr((uploaded, told))
    for path in run.path.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes()
    assert all(TOKEN.encode() not in data for data in hub.repos[NAME].files.values())


@pytest.mark.parametrize("fault", [None, ("commit", 418), ("whoami", 401)])
def test_a_password_in_the_endpoint_is_nowhere(
    run: RunDirectory,
    hub: HubServer,
    upload: Upload,
    capfd: pytest.CaptureFixture[str],
    fault: tuple[str, int] | None,
) -> None:
    endpoint = hub.url.replace("http://", "http://ada:s3cr%40t@")
    told: list[UploadProgress] = []
    if fault:
        hub.fail(*fault, message=f"not for {endpoint}, s3cr@t")
        with pytest.raises(UserError) as error:
            upload(told.append, endpoint=endpoint)
        said = str(error.value)
    else:
        said = repr(upload(told.append, endpoint=endpoint))
        assert hub.url in said
    said += repr(told) + "".join(capfd.readouterr())
    records = b"".join(p.read_bytes() for p in run.path.glob("*") if p.is_file())
    for secret in ("s3cr%40t", "s3cr@t"):
        assert secret not in said
        assert secret.encode() not in records


def test_two_uploads_at_once_leave_one_whole_model(hub: HubServer, upload: Upload) -> None:
    threads = [threading.Thread(target=upload, kwargs={"checkpoint": c}) for c in ("4", "8")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert set(hub.repos[NAME].files) == SENT


def test_in_use_is_given_back(run: RunDirectory, upload: Upload) -> None:
    upload(checkpoint="4")
    assert not is_in_use(run.checkpoints / "step_4")
    with in_use(run.checkpoints / "step_4"):
        pass
