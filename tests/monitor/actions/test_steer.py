"""Acts say what became true, or why not."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from monitor.actions.steer import request, resume, wait_for_answer, why_no_request
from monitor.data.scanner import RunScanner
from monitor.data.views import RunView
from shared.errors import RunError, UserError
from shared.run_directory import RunDirectory
from shared.run_writer import RunWriter
from tests.monitor.support import write_run


def look(run: RunDirectory) -> RunView:
    views = RunScanner(run.path.parent, time.time).scan()
    return next(v for v in views if v.run_id == run.run_id)


def test_a_crashed_run_is_launched(crashed_run: RunDirectory) -> None:
    started: list[RunDirectory] = []

    def launcher(run: RunDirectory) -> str:
        started.append(run)
        return "running"

    assert resume(look(crashed_run), launcher) == "crashed_1 is running again."
    assert started == [crashed_run]


def test_a_live_run_is_not_launched(tmp_path: Path) -> None:
    with (
        RunWriter(tmp_path, name="live") as writer,
        pytest.raises(UserError, match="nothing to resume"),
    ):
        resume(look(writer.run), lambda _: pytest.fail("launched"))


def test_a_run_somebody_else_resumed_meanwhile_is_not_launched(crashed_run: RunDirectory) -> None:
    stale = look(crashed_run)
    assert stale.status == "crashed"
    with RunWriter(run=crashed_run), pytest.raises(UserError, match="nothing to resume"):
        resume(stale, lambda _: pytest.fail("launched"))


def test_a_completed_run_is_not_launched(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "done", {"status": "completed"})
    with pytest.raises(UserError, match="completed"):
        resume(look(RunDirectory(folder)), lambda _: pytest.fail("launched"))


def answer_next(writer: RunWriter, *, ok: bool, message: str) -> threading.Thread:
    def serve() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for found in writer.take_requests():
                writer.answer(found, ok=ok, message=message)
                return

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_the_answer_is_the_trainers(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="live") as writer:
        view = look(writer.run)
        serving = answer_next(writer, ok=True, message="paused at step 5")
        assert wait_for_answer(view, *request(view, "pause")).endswith("paused at step 5")
        serving.join()
        serving = answer_next(writer, ok=False, message="disk\x1b[2J full")
        with pytest.raises(RunError, match=r"disk\[2J full"):
            wait_for_answer(view, *request(view, "checkpoint"))
        serving.join()


def test_a_run_that_ends_answers_or_is_told_to_have_ended(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, name="live")
    view = look(writer.run)
    asked = request(view, "checkpoint")
    writer.finish("cancelled")
    with pytest.raises(RunError, match="the run ended"):
        wait_for_answer(view, *asked)
    with pytest.raises(RunError, match="ended without an answer"):
        wait_for_answer(view, "unknown", asked[1])


def test_waiting_ends_with_patience_or_leaving(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="live") as writer:
        view = look(writer.run)
        with pytest.raises(RunError, match="not answered"):
            wait_for_answer(view, *request(view, "pause"), timeout=0.0)
        assert wait_for_answer(view, *request(view, "pause"), give_up=lambda _: True) == ""


def test_nobody_is_asked_where_nobody_is(crashed_run: RunDirectory) -> None:
    view = look(crashed_run)
    assert "no trainer" in why_no_request(view, "stop")
    with pytest.raises(UserError, match="no trainer"):
        request(view, "stop")
    assert not list(crashed_run.control.iterdir())
