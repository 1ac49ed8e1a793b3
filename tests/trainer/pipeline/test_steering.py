"""Requests and signals reach the command that a stage runs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from shared.control.requests import submit
from shared.errors import ExitCode
from shared.ownership.process import STOPPED, identify
from shared.run.record_lines import read_records
from tests.trainer.pipeline.conftest import Pipeline
from tests.waiting import until
from trainer.daemon.policy import RestartLimits
from trainer.pipeline.runner import Hooks

pytestmark = pytest.mark.slow


@pytest.fixture
def children(pipeline: Pipeline) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The commands that were started: each sleeps until it is ended. The second stage runs one."""
    started: list[subprocess.Popen[bytes]] = []

    def launch(_arguments: Sequence[str], _output: Path, _tied: bool) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["sleep", "600"], start_new_session=True))
        return started[-1]

    pipeline.stages[1].act = lambda work: work.command("sleep")  # type: ignore[assignment,return-value]
    pipeline.hooks = Hooks(launch=launch, limits=RestartLimits(first_delay=0.01))
    yield started
    for child in started:
        child.kill()
        child.wait()


def meanwhile(pipeline: Pipeline, children: list[object], act: Callable[[Path], None]) -> int:
    """Run the pipeline, and `act` on its folder for requests once the command is at work."""

    def watch() -> None:
        until(lambda: children)
        assert pipeline.run_writer is not None
        act(pipeline.run_writer.run.control)

    thread = threading.Thread(target=watch)
    thread.start()
    code = pipeline.run()
    thread.join()
    return code


def answers(pipeline: Pipeline) -> list[tuple[str, bool]]:
    assert pipeline.run_writer is not None
    records = read_records(pipeline.run_writer.run.events_path)
    return [(r["action"], r["ok"]) for r in records if r["event"] == "answer"]


def status(pipeline: Pipeline) -> str:
    assert pipeline.run_writer is not None
    state = pipeline.run_writer.run.read_state()
    return state.status if state else ""


def test_pause_continue_and_stop(
    pipeline: Pipeline, children: list[subprocess.Popen[bytes]]
) -> None:
    def act(control: Path) -> None:
        child = identify(children[0].pid)
        submit(control, "pause")
        until(lambda: child.condition() == STOPPED and status(pipeline) == "paused")
        submit(control, "checkpoint")  # there is no training that could save one
        submit(control, "resume")
        until(lambda: child.condition() != STOPPED and status(pipeline) == "running")
        submit(control, "stop")

    assert meanwhile(pipeline, children, act) == ExitCode.OK  # type: ignore[arg-type]
    assert status(pipeline) == "cancelled"
    assert children[0].wait() == -signal.SIGTERM
    assert answers(pipeline) == [
        ("pause", True), ("checkpoint", False), ("resume", True), ("stop", True),
    ]  # fmt: skip
    assert pipeline.record("second").status == "waiting"


def test_a_signal_ends_the_command_and_the_exit_code_asks_for_a_requeue(
    pipeline: Pipeline, children: list[subprocess.Popen[bytes]]
) -> None:
    def act(_control: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    assert meanwhile(pipeline, children, act) == ExitCode.REQUEUE  # type: ignore[arg-type]
    assert status(pipeline) == "preempted"
    assert children[0].wait() == -signal.SIGTERM


def test_a_command_that_is_killed_is_started_again_and_not_for_ever(
    pipeline: Pipeline, children: list[subprocess.Popen[bytes]]
) -> None:
    def act(_control: Path) -> None:
        for number in range(6):  # the first, and five restarts
            until(lambda number=number: len(children) > number)  # type: ignore[misc]
            children[number].kill()

    assert meanwhile(pipeline, children, act) == ExitCode.FAILURE  # type: ignore[arg-type]
    assert "trainer sleep was killed by SIGKILL; it is started again" in pipeline.log
    assert "Stage second failed: trainer sleep was killed by SIGKILL." in pipeline.log
