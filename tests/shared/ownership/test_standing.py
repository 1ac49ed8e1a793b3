"""A run without a state stands where its metrics say, for every command."""

from __future__ import annotations

import json
import os
from pathlib import Path

from shared.export.page import run_page
from shared.library.deletion import doom
from shared.ownership.standing import standing
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter


def script_run(tmp_path: Path) -> RunDirectory:
    """A hundred steps by another program, some time ago."""
    run = RunDirectory(tmp_path / "script")
    run.path.mkdir()
    records = ({"step": s, "loss": 1.5, "max_steps": 200, "phase": "sft"} for s in range(100))
    run.metrics_path.write_text("".join(json.dumps(record) + "\n" for record in records))
    os.utime(run.metrics_path, (1_000_000.0, 1_000_000.0))
    return run


def test_its_step_and_its_status_are_those_of_the_metrics(tmp_path: Path) -> None:
    run = script_run(tmp_path)
    state, health = standing(run, now=1_000_010.0)
    assert (health.status, health.alive, health.reason) == ("running", False, "")
    assert (state.current_step, state.max_steps, state.current_phase) == (99, 200, "sft")
    _, health = standing(run, now=1_000_100.0)
    assert health.status == "idle"
    assert health.reason.startswith("no run_state.json; last written 19")
    assert doom(run).describe()[0].startswith("script: idle, step 99; 1 file, ")
    assert any("step 99 of 200" in line for line in run_page(run))


def test_an_empty_folder_is_idle_at_step_0(tmp_path: Path) -> None:
    state, health = standing(RunDirectory(tmp_path / "none"))
    assert (state.current_step, health.status) == (0, "idle")
    assert health.reason == "no run_state.json; nothing was written"


def test_a_state_comes_first(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="ours") as writer:
        writer.log(3, loss=1.0)
    state, health = standing(writer.run)
    assert (state.current_step, health.status) == (3, "completed")


def test_restarts_are_promised_only_where_a_daemon_watches(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="r", supervised=True) as writer:
        told = next(line for line in run_page(writer.run) if line.startswith("restarted by"))
    assert told.endswith("nobody: no daemon watches it")
