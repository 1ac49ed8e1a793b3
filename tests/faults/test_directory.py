"""The runs directory is read-only, full or gone: at the start a sentence, in mid-run an alarm."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from shared.run.directory import RunDirectory
from tests.faults.forking import ForkServer, wait_until_training
from tests.faults.test_kill import ENDLESS, command
from tests.trainer.loop.conftest import Trained
from tests.waiting import until


@pytest.mark.slow
def test_a_run_directory_that_goes_and_comes_back(
    server: ForkServer, tmp_path: Path, text_data: Path
) -> None:
    """Renamed away in mid-run: an alarm, training goes on; renamed back, nothing is missing."""
    where, console = tmp_path / "runs", tmp_path / "console"
    pid = server.start(*command("away", where, text_data, ENDLESS), output=str(console))
    run = wait_until_training(where, pid)
    where.rename(tmp_path / "elsewhere")
    until(lambda: "[ALARM]" in console.read_text())
    assert not where.exists(), "nothing makes the folder again"
    (tmp_path / "elsewhere").rename(where)
    until(lambda: "can be written again" in console.read_text())
    os.kill(pid, signal.SIGTERM)
    assert server.wait(pid) == 75
    done = Trained(run, 75)
    steps = done.metrics.series("loss").steps.tolist()
    assert steps == list(range(1, len(steps) + 1)), "every step is in the records"
    assert [e["alarm"] for e in done.events if e["event"] == "alarm"] == ["directory"]
    assert [e["alarm"] for e in done.events if e["event"] == "alarm_over"] == ["directory"]
    assert done.state.alarm == ""
    assert done.state.latest_checkpoint == f"step_{done.state.current_step}"


@pytest.mark.slow
def test_a_run_directory_that_does_not_come_back(
    server: ForkServer, tmp_path: Path, text_data: Path
) -> None:
    """After the grace the run ends by itself, and says where it was and how to go on."""
    where, console = tmp_path / "runs", tmp_path / "console"
    settings = {**ENDLESS, "stability.directory_grace": 1.0}
    pid = server.start(*command("lost", where, text_data, settings), output=str(console))
    run = wait_until_training(where, pid)
    where.rename(tmp_path / "elsewhere")
    assert server.wait(pid) == 1
    said = console.read_text()
    assert "[ALARM]" in said
    assert "Traceback" not in said
    assert "is gone" in said
    assert "trainer resume" in said
    assert not where.exists(), "nothing makes the folder again"
    (tmp_path / "elsewhere").rename(where)
    again = server.start("resume", str(run.path), "--set", "train.max_steps=3")
    assert server.wait(again) == 0, "the run can go on"
    assert Trained(RunDirectory(run.path), 0).state.status == "completed"
