"""The look-alike of TensorBoard's SummaryWriter, and how a program that just ends is recorded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.bridges.summary_writer import SummaryWriter
from shared.control.requests import submit
from shared.run.directory import RunDirectory, discover_runs
from shared.run.metrics_log import MetricsReader
from shared.run.record_lines import read_records
from shared.run.records import RunState
from tests.waiting import until


def the_run(runs: Path) -> tuple[RunDirectory, RunState]:
    (run,) = discover_runs(runs)
    state = run.read_state()
    assert state is not None
    return run, state


def points(run: RunDirectory, name: str) -> list[tuple[float, float]]:
    series = MetricsReader(run.metrics_path).read_all().series(name)
    return list(zip(series.steps, series.values, strict=True))


def test_the_values_of_a_step_are_one_record_and_steps_may_go_back(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path / "runs" / "mine") as writer:
        for step in (10, 20):
            writer.add_scalar("loss", 1 / step, step)
            writer.add_scalar("rate", step, step, walltime=1.0, new_style=True)
        writer.add_scalar("epoch_loss", 0.5, 1)  # counted in epochs
        writer.add_scalar("epoch_loss", 0.25, 2)
        writer.add_scalar("words", "not a number", 2)
        writer.add_image("picture", object(), 2)
        writer.add_image("picture", object(), 3)
    run, state = the_run(tmp_path / "runs")
    assert (state.status, state.run_name, state.current_step) == ("completed", "mine", 20)
    assert points(run, "loss") == [(10, 0.1), (20, 0.05)]
    assert points(run, "epoch_loss") == [(1, 0.5), (2, 0.25)]
    assert len(list(read_records(run.metrics_path))) == 4
    assert run.log_path.read_text().count("add_image") == 1
    with pytest.raises(AttributeError):
        _ = writer.no_such_thing


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    writer = SummaryWriter(tmp_path / "runs" / "mine", rank=1)
    writer.add_scalar("loss", 1.0, 1)
    writer.add_hparams({"a": 1}, {})
    assert not writer.asked(1).stop
    writer.close()
    assert not (tmp_path / "runs").exists()


def test_a_script_that_does_not_ask_refuses_to_stop_but_pauses(tmp_path: Path) -> None:
    writer = SummaryWriter(tmp_path / "runs" / "mine")
    run, _ = the_run(tmp_path / "runs")
    assert writer.writer is not None
    for action in ("pause", "stop", "resume"):
        submit(run.control, action)
    until(lambda: writer.writer is not None and writer.writer.waiting_requests == 3)
    writer.add_scalar("loss", 1.0, 1)
    writer.flush()
    writer.close()
    answers: list[Any] = [e for e in read_records(run.events_path) if e["event"] == "answer"]
    assert [(e["action"], e["ok"]) for e in answers] == [
        ("pause", True),
        ("stop", False),
        ("resume", True),
    ]
    assert "`asked`" in answers[1]["message"]


@pytest.mark.parametrize(
    ("last_line", "ending"),
    [
        ("1 / 0", ("failed", "ZeroDivisionError: division by zero")),
        ("raise KeyboardInterrupt", ("cancelled", "interrupted from the keyboard")),
        ("", ("completed", "")),
    ],
)
def test_a_program_that_just_ends(tmp_path: Path, last_line: str, ending: tuple[str, str]) -> None:
    """Nothing closes the writer: what it holds is written, and the end has its reason."""
    script = (
        "from shared.bridges.summary_writer import SummaryWriter\n"
        "writer = SummaryWriter('runs/mine')\n"
        f"writer.add_scalar('loss', 1.0, 7)\n{last_line}\n"
    )
    subprocess.run(
        [sys.executable, "-c", script], check=False, cwd=tmp_path, timeout=120, capture_output=True
    )
    run, state = the_run(tmp_path / "runs")
    assert points(run, "loss") == [(7, 1.0)]
    assert state.exit is not None
    assert (state.status, state.exit.reason) == ending
