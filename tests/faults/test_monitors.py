"""Monitors that come, are killed and come again: a run is the same as if nobody had watched it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.json_text import Json
from shared.run.directory import RunDirectory
from tests.faults.counts import times
from tests.faults.forking import ForkServer, wait_until_training
from tests.monitor.test_terminal import Terminal
from tests.trainer.loop.conftest import GPT2, TINY, Trained, as_flags
from tests.waiting import until

INTERVAL = times(100, 2000)  # steps between checkpoints
SETTINGS = {
    **TINY,
    **GPT2,
    "train.max_steps": 10**6,
    "eval.interval": 10**6,
    "log.interval": 100,
    "checkpoint.interval": INTERVAL,
    "checkpoint.keep_last": 1000,
}


def command(name: str, where: Path, data: Path) -> list[str]:
    arguments = ["train", "--name", name, "--runs-dir", str(where), "--data-path", str(data)]
    return [*arguments, *as_flags(SETTINGS), "--deterministic"]


@contextlib.contextmanager
def monitors(runs_dir: Path, count: int, name: str) -> Iterator[list[Terminal]]:
    """That many monitors, all of which have drawn the run of that name; killed on leaving."""
    terminals = [Terminal("--runs-dir", str(runs_dir)) for _ in range(count)]
    try:
        for terminal in terminals:
            terminal.read_until(name.encode())
            terminal.read_until(b"running")
        yield terminals
        for terminal in terminals:
            assert terminal.process.poll() is None, terminal.output[-2000:]
            terminal.process.send_signal(signal.SIGKILL)
        for terminal in terminals:
            assert terminal.process.wait() == -signal.SIGKILL
    finally:
        for terminal in terminals:
            terminal.close()


def wait_for_a_step(run: RunDirectory) -> None:
    """Training goes on."""
    before = Trained(run, 0).state.current_step
    until(lambda: Trained(run, 0).state.current_step > before, what=lambda: "no step is made")


def names_in(folder: Path) -> set[str]:
    """The names of all there is, checkpoints as one."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    return {re.sub(r"step_\d+", "step_N", name) for name in names}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_monitors_come_and_are_killed(server: ForkServer, tmp_path: Path, text_data: Path) -> None:
    """Two equal runs side by side; the monitors of the one make no byte of difference."""
    rng = random.Random(5)
    places = [tmp_path / name for name in ("watched", "alone")]
    pids = [server.start(*command(place.name, place, text_data)) for place in places]
    watched, alone = map(wait_until_training, places, pids)
    for count in [1] * times(1, 100) + [times(2, 10)]:
        with monitors(watched.path.parent, count, "watched"):
            time.sleep(rng.uniform(0.0, 0.3))  # a random moment to be killed at
        wait_for_a_step(watched)
    until(lambda: Trained(watched, 0).state.current_step >= INTERVAL)
    os.kill(pids[0], signal.SIGTERM)
    assert server.wait(pids[0]) == 75
    last = Trained(watched, 75).state.current_step // INTERVAL * INTERVAL
    until((alone.checkpoints / f"step_{last}").is_dir)
    os.kill(pids[1], signal.SIGTERM)
    assert server.wait(pids[1]) == 75
    _same(Trained(watched, 75), Trained(alone, 75), last)
    assert names_in(watched.path) == names_in(alone.path), "a monitor leaves nothing behind"
    assert list(watched.path.parent.iterdir()) == [watched.path]
    print(f"{last} steps compared")


def _same(watched: Trained, alone: Trained, last: int) -> None:
    """Complete records, and up to step `last` the same numbers and checkpoints."""
    assert last >= INTERVAL
    for step in range(INTERVAL, last + 1, INTERVAL):
        assert watched.hashes(f"step_{step}") == alone.hashes(f"step_{step}")
    series = [done.metrics.series("loss") for done in (watched, alone)]
    assert series[0].values[:last].tolist() == series[1].values[:last].tolist()
    assert series[0].steps.tolist() == list(range(1, watched.state.current_step + 1))
    assert watched.metrics.bad_lines == 0
    assert watched.run.metrics_path.read_bytes().endswith(b"\n")
    assert watched.state.status == "preempted"
    assert _kinds(watched.events) == _kinds(alone.events)


def _kinds(events: list[Json]) -> set[str]:
    """Without advice, which rests on the clock and on how far a run has come."""
    return {event["event"] for event in events} - {"advice"}
