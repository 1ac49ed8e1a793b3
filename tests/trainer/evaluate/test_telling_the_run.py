"""An evaluation is written down by whoever owns the run: its trainer, a daemon, or nobody."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

from shared.checkpoints.evaluation_record import EVENT, event_fields, record_evaluation
from shared.control.requests import submit
from shared.run.directory import RunDirectory, discover_runs
from shared.run.record_lines import read_records
from tests.conftest import RunCli
from tests.shared.checkpoints.test_evaluation import RESULT
from trainer.daemon.policy import RestartLimits
from trainer.daemon.scheduler import Limits
from trainer.daemon.supervisor import Supervisor

SECONDS = 60.0


def events(run: RunDirectory, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_records(run.events_path) if event.get("event") == kind]


def test_a_daemon_writes_it_for_a_run_without_a_trainer(run_path: Path, tmp_path: Path) -> None:
    run = RunDirectory(Path(shutil.copytree(run_path, tmp_path / run_path.name, symlinks=True)))
    submit(run.control, "evaluated", event_fields("step_10", RESULT))
    submit(run.control, "evaluated", {"name": "step_10"})
    supervisor = Supervisor(
        tmp_path, tmp_path / "care.json", Limits(1, 1), RestartLimits(), say=lambda _line: None
    )
    deadline = time.monotonic() + SECONDS
    while len(events(run, "answer")) < 2:
        supervisor.tick()
        assert time.monotonic() < deadline
    supervisor.close()
    assert [answer["ok"] for answer in events(run, "answer")] == [True, False]
    [event] = events(run, EVENT)
    assert event["loss"] == RESULT.total.loss


def test_a_trainer_writes_it_while_it_trains(
    run_cli: RunCli, token_data: Path, tmp_path: Path
) -> None:
    shape = ("hidden_size=16", "num_layers=1", "num_heads=2", "max_seq_len=32")
    small = [part for value in shape for part in ("--set", f"model.{value}")]
    found: list[RunDirectory] = []

    def ask() -> None:
        """From another thread: a trainer listens to signals, and so has the main one."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and not (found and found[0].metrics_path.is_file()):
            time.sleep(0.02)
            found[:] = discover_runs(tmp_path)
        try:
            assert record_evaluation(found[0], "step_1", RESULT) == ""
            submit(found[0].control, "evaluated", {"name": 5})
            while time.monotonic() < deadline and len(events(found[0], "answer")) < 2:
                time.sleep(0.02)
        finally:
            submit(found[0].control, "stop")

    asking = threading.Thread(target=ask)
    asking.start()
    output = run_cli(
        "train", "--name", "live", "--runs-dir", tmp_path, "--data-path", token_data, *small,
        "--max-steps", 1_000_000, "--eval-interval", 1_000_000, "--batch-size", 1,
    )  # fmt: skip
    asking.join()
    assert output.code == 0, output.err
    answers = [a["ok"] for a in events(found[0], "answer") if a["action"] == "evaluated"]
    assert answers == [True, False]
    [event] = events(found[0], EVENT)
    assert (event["name"], event["tokens"]) == ("step_1", RESULT.total.tokens)
