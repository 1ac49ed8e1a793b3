"""The job, against a Hub on this machine, with the real client."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from monitor.actions.upload import (
    FileStatus,
    UploadJob,
    UploadStatus,
    in_words,
    leave,
    offer,
    settings_from,
)
from shared.errors import UserError
from shared.hub.settings import Progress, Uploaded, UploadProgress, UploadSettings
from shared.hub.upload import upload_checkpoint
from shared.run.directory import RunDirectory
from shared.run.record_lines import read_records
from tests import waiting
from tests.hub_server import HubServer
from tests.monitor.actions.making import look


def settings(**fields: object) -> UploadSettings:
    made = settings_from(**{"repo": "tiny", "checkpoint": "step_200", **fields})  # type: ignore[arg-type]
    return dataclasses.replace(made, waits=(0.01,))


def start(run: RunDirectory, **fields: object) -> UploadJob:
    job = UploadJob(look(run), settings(**fields), offer(look(run), "step_200").files)
    job.start()
    return job


def finished(job: UploadJob) -> UploadStatus:
    job.join(waiting.SECONDS)
    assert not job.status.running, "it never came to an end"
    return job.status


def test_the_offer_is_the_best_checkpoint_and_sends_nothing(
    run: RunDirectory, hub: HubServer
) -> None:
    made = offer(look(run))
    assert made.checkpoint == "step_200"
    assert dict(made.files)["model.safetensors"] > 128
    assert {"config.json", "README.md"} <= dict(made.files).keys()
    assert made.bytes == sum(dict(made.files).values())
    assert made.checkpoints[0] == "final"
    assert (made.repo, made.suggested) == ("", "demo")
    assert made.summary().startswith("step_200: ")
    assert hub.requests == []


def test_a_damaged_checkpoint_is_a_problem_and_another_may_go(run: RunDirectory) -> None:
    (run.checkpoints / "step_200" / "model.safetensors").write_bytes(b"short")
    made = offer(look(run), "step_200")
    assert made.problem
    assert "step_300" in made.checkpoints
    assert not offer(look(run), "step_300").problem


def test_it_goes_up_is_remembered_and_told_file_by_file(run: RunDirectory, hub: HubServer) -> None:
    told: list[UploadJob] = []
    seen: list[UploadStatus] = []

    def upload(
        run: RunDirectory, settings: UploadSettings, tell: Progress, cancel: threading.Event
    ) -> Uploaded:
        def watched(progress: UploadProgress) -> None:
            tell(progress)
            seen.append(job.status)

        return upload_checkpoint(run, settings, watched, cancel)

    files = offer(look(run), "step_200").files
    job = UploadJob(look(run), settings(), files, told.append, upload)
    assert [f.done for f in job.status.files] == [0] * len(job.status.files)
    job.start()
    status = finished(job)
    assert told == [job]
    assert (status.outcome, status.url) == ("done", f"{hub.url}/ada/tiny")
    assert f"step_200 is at {hub.url}/ada/tiny (private, " in status.message
    assert hub.repos["ada/tiny"].private
    stages = [s.stage for s in seen]
    assert stages.index("checking") < stages.index("sending") < stages.index("committing")
    assert {f.name: f.done == f.total for f in status.files} == dict.fromkeys(
        hub.repos["ada/tiny"].files, True
    )
    state = run.read_state()
    assert state is not None
    assert state.hub_repo == "ada/tiny"
    assert [e["url"] for e in read_records(run.events_path)] == [status.url]
    assert offer(look(run)).repo == "ada/tiny"


def test_public_only_when_it_was_marked(run: RunDirectory, hub: HubServer) -> None:
    assert finished(start(run, public=True)).outcome == "done"
    assert not hub.repos["ada/tiny"].private
    status = finished(start(run))
    assert status.outcome == "failed"
    assert status.message == (
        "ada/tiny exists and is public: mark “public” to upload to it anyway, or name another."
    )


def test_cancelled_it_leaves_nothing_and_the_next_try_sends_no_byte_twice(
    run: RunDirectory, hub: HubServer
) -> None:
    gate = threading.Event()
    hub.fail("PUT ", hold=gate)
    job = start(run)
    assert hub.reached.wait(waiting.SECONDS)
    job.cancel()
    assert job.cancelling
    gate.set()
    assert finished(job).outcome == "cancelled"
    assert not hub.repos["ada/tiny"].files
    again = job.again()
    again.start()
    assert finished(again).outcome == "done"
    large = [n for n in hub.repos["ada/tiny"].files if n.endswith((".safetensors", ".png"))]
    assert hub.received == sum(len(hub.repos["ada/tiny"].files[name]) for name in large)


def test_a_dropped_network_is_waited_for_and_told(run: RunDirectory, hub: HubServer) -> None:
    hub.fail("PUT ", drop_after=10)
    job = start(run)
    assert finished(job).outcome == "done", job.status.message
    hub.fail("GET /api/whoami", 503, times=99)
    again = job.again()
    again.start()
    status = finished(again)
    assert status.outcome == "failed"
    assert "try again later" in status.message


@pytest.mark.parametrize(("token", "words"), [("", "You are not logged in"), ("hf_no", "token")])
def test_who_is_not_logged_in_is_told_what_to_do(
    run: RunDirectory, hub: HubServer, monkeypatch: pytest.MonkeyPatch, token: str, words: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere/token")
    status = finished(start(run))
    assert status.outcome == "failed"
    assert words in status.message
    assert "--token-file" not in status.message


def test_whatever_goes_wrong_is_told(run: RunDirectory) -> None:
    def broken(*_: object) -> None:
        raise ValueError("un\x1bexpected")

    job = UploadJob(look(run), settings(), (), upload=broken)  # type: ignore[arg-type]
    job.start()
    assert finished(job).message == "The upload failed: ValueError('un\\x1bexpected')."


def test_leaving_cancels_what_runs(run: RunDirectory, hub: HubServer) -> None:
    gate = threading.Event()
    hub.fail("POST /api/repos/create", hold=gate)
    job = start(run)
    assert hub.reached.wait(waiting.SECONDS)
    threading.Timer(0.1, gate.set).start()
    leave([job])
    assert job.status.outcome == "cancelled"
    leave([job])


def test_the_words_of_each_stage() -> None:
    status = UploadStatus("ada/x", stage="sending", bytes=512, total=2048, seconds=2.0)
    assert status.line() == "Sending: 512 B of 2.0 KiB, 256 B/s, 6s left"
    assert status.fraction == 0.25
    assert UploadStatus("x").line() == "Asking the Hub…"
    waiting = dataclasses.replace(status, stage="waiting", note="the connection dropped; …")
    assert waiting.line() == "the connection dropped; …"
    assert FileStatus("a", 1, 2).done == 1


def test_no_sentence_names_options_that_a_screen_has_not() -> None:
    for sentence in (
        "x is public: give --public to upload to it anyway, or name another with --repo.",
        "x holds a model: name another with --repo, or give --overwrite to put this one there.",
        "You may not write to x; name one of your own with --repo, or log in with a token.",
        "upload to another owner with --repo OWNER/NAME.",
        "There is no repository x that you can see; check --repo, and that the token may read it.",
        "The Hub refuses the model card: no; check --license and --language.",
        "run `hf auth login` once, or set HF_TOKEN, or give --token-file FILE.",
    ):
        assert "--" not in in_words(sentence), in_words(sentence)


def test_a_repository_must_be_named() -> None:
    with pytest.raises(UserError, match="Type the repository"):
        settings_from(repo="  ")
