"""Fair comparison on a noisy machine: peers in processes of their own, taking turns round by round.

A worker prepares itself, then does one round of work whenever it is told to and answers with the
seconds it took, by the clock and of the processor. While one works the others wait, blocked on
their input. Many short rounds and the best of them: a neighbour rarely disturbs all.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Best:
    """The least seconds a round took: `wall` by the clock, `cpu` of all threads together."""

    wall: float
    cpu: float


class Turns:
    """The worker's side: `step()` is called as each step begins, and waits between rounds."""

    def __init__(self, steps_per_round: int, warmup: int) -> None:
        self._steps, self._left = steps_per_round, warmup
        self._wall = self._cpu = 0.0
        # The loop prints on stdout; the answers must not mix with that.
        self._answers = sys.stdout
        sys.stdout = sys.stderr

    def step(self) -> None:
        """Count a step. Raises SystemExit when there is no further round."""
        if self._left == 0:
            wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
            print(wall, cpu, file=self._answers, flush=True)
            if not sys.stdin.readline():
                raise SystemExit(0)
            self._left = self._steps
            self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._left -= 1


def interleave(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, Best]:
    """The best round of each worker; `commands` are arguments of this Python.

    Raises RuntimeError with a worker's last words when it dies.
    """
    workers: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, command in commands.items():
            workers[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            _answer(name, workers[name])  # ready: one at a time, so that no warmup disturbs another
        times: dict[str, list[Best]] = {name: [] for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
                times[name].append(_answer(name, worker))
        return {
            name: Best(min(t.wall for t in times[name]), min(t.cpu for t in times[name]))
            for name in workers
        }
    finally:
        for worker in workers.values():
            if worker.stdin:
                worker.stdin.close()
        for worker in workers.values():
            try:
                worker.wait(timeout=20)
            except subprocess.TimeoutExpired:
                worker.kill()


def _answer(name: str, worker: subprocess.Popen[str]) -> Best:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise RuntimeError(f"the worker {name} ended with {worker.wait()}: {worker.args!r}")
    wall, cpu = line.split()
    return Best(float(wall), float(cpu))
