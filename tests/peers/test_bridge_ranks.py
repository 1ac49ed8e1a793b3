"""Two processes train together: one of them writes the run, and both obey its requests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shared.control.client import ask
from shared.run.directory import RunDirectory, discover_runs
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PATIENCE = 280  # seconds; a script gives up before
ACCELERATE = """
import time
from accelerate import Accelerator
from shared.bridges.accelerate import RunTracker
tracker = RunTracker("runs", "mine")
accelerator = Accelerator(cpu=True, log_with=tracker)
accelerator.init_trackers("p", config={"lr": 0.1})
step, end = 0, time.monotonic() + 150
while time.monotonic() < end:
    step += 1
    accelerator.log({"loss": 1 / step}, step=step)
    if tracker.asked(step).stop:
        break
accelerator.end_training()
print("ended at", step)
"""
TRANSFORMERS = """
from pathlib import Path
from tests.peers.test_bridge_transformers import make_trainer
trainer = make_trainer(Path("."), max_steps=5_000)
trainer.train()
print("ended at", trainer.state.global_step)
"""


@pytest.mark.parametrize(
    ("library", "script"),
    [("accelerate", ACCELERATE), ("transformers", TRANSFORMERS)],
    ids=["accelerate", "transformers"],
)
def test_rank_0_writes_and_a_stop_ends_both_at_one_step(
    tmp_path: Path, library: str, script: str
) -> None:
    pytest.importorskip("accelerate")
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    ranks = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env={**os.environ, **ranks, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        runs = tmp_path / "runs"
        until(lambda: _begun(runs) or _ended(processes))
        for run in _begun(runs):
            ask(run, "stop")
        outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    steps = {out.rpartition("ended at ")[2].strip() for out, _ in outputs}
    assert len(steps) == 1
    [run] = discover_runs(runs)
    state = run.read_state()
    assert state is not None
    assert (state.ranks, str(state.current_step)) == (2, *steps)
    assert library in run.config_path.read_text()


def _begun(runs: Path) -> list[RunDirectory]:
    found = discover_runs(runs) if runs.is_dir() else []
    return [run for run in found if (state := run.read_state()) and state.current_step > 2]


def _ended(processes: list[subprocess.Popen[str]]) -> bool:
    return any(process.poll() is not None for process in processes)
