"""What watching costs a training run: its step time with 0, 1 and 10 monitors attached.

One run, and ten `train-monitor`s that follow it, each on its own terminal. Short blocks of steps
alternate between no, one and ten of them awake, the others stopped by a signal. Every round gives
the ratio of a watched block's median step to that of the unwatched one next to it; the figure is
the median of the rounds, with the bounds between which it lies at 95 % (by the order of the
rounds, whatever their distribution). The trainer has one core to itself and the monitors share
another, so this measures interference, not that two programs need more CPU than one. Hold: the
median step grows by less than 1 %.

    python -m benchmarks.monitor_attach [--quick]
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.interleave import ROOT
from benchmarks.loop_overhead import SHAPES, Clocks, clocks
from benchmarks.ratios import ratio
from benchmarks.record import Hold, Result, Row, run_alone
from benchmarks.terminal import used
from benchmarks.training_run import open_run, write_tokens

HOLD_GROWTH = 0.01
CROWDS = (0, 1, 10)
ROUNDS = 48
BLOCK_SECONDS = 1.0
SETTLE_SECONDS = 0.5  # not counted: monitors that wake up read what they have missed
WARMUP = 60  # steps
LEAST_STEPS = 12  # in a block
DRAWN = b"running"  # what a monitor has on its screen when it shows the run
START_SECONDS = 120.0
Round = dict[int, list[Clocks]]
_MODEL = {
    "model.flavour": "gpt2",
    "model.vocab_size": 65,
    "train.device": "cpu",
    "train.threads": 1,
    "train.max_steps": 10**9,
}


# -- the monitors' side ------------------------------------------------------------------------


class Screen:
    """One monitor on a terminal of 80 by 24, whose output is read and forgotten."""

    def __init__(self, runs_dir: str) -> None:
        self.fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "monitor", "--runs-dir", runs_dir],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(slave)
        self._output = b""
        self.drawn = False
        self._awake = True

    def read(self) -> None:
        """Take what it has drawn. Raises RuntimeError when it has ended."""
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError:
            data = b""
        if not data:
            raise RuntimeError(f"a monitor ended: {self._output[-500:]!r}")
        self._output = (self._output + data)[-(1 << 16) :]
        self.drawn = self.drawn or DRAWN in self._output

    def wake(self, awake: bool) -> None:
        """Let it run, or stop it and its helpers where they are."""
        if awake != self._awake:
            os.killpg(self._process.pid, signal.SIGCONT if awake else signal.SIGSTOP)
            self._awake = awake

    @property
    def used(self) -> float:
        """Seconds of processor time."""
        return used(str(self._process.pid))

    def close(self) -> None:
        """Kill it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        os.close(self.fd)


def attend(runs_dir: str, count: int) -> None:
    """Read a number per line; let that many monitors watch, and say so: by the seconds of processor
    time that all have used. All have drawn the run before the first answer.
    """
    screens = [Screen(runs_dir) for _ in range(count)]
    deadline = time.monotonic() + START_SECONDS
    while not all(s.drawn for s in screens):
        if time.monotonic() > deadline:
            raise RuntimeError("a monitor does not show the run")
        for fd in select.select([s.fd for s in screens], [], [], 1.0)[0]:
            next(s for s in screens if s.fd == fd).read()
    while True:
        ready, _, _ = select.select([sys.stdin, *(s.fd for s in screens)], [], [])
        for screen in screens:
            if screen.fd in ready:
                screen.read()
        if sys.stdin not in ready:
            continue
        line = sys.stdin.readline()
        if not line:
            for screen in screens:
                screen.close()
            return
        for number, screen in enumerate(screens):
            screen.wake(number < int(line))
        print(sum(screen.used for screen in screens), flush=True)


class Crowd:
    """The process that keeps `count` monitors, on a core of its own if there is one."""

    def __init__(self, runs_dir: Path, core: int | None, count: int = max(CROWDS)) -> None:
        code = "import sys; from benchmarks.monitor_attach import attend; "
        code += "attend(sys.argv[1], int(sys.argv[2]))"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(runs_dir), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            bufsize=1,
        )
        if core is not None:
            os.sched_setaffinity(self._process.pid, {core})

    def gather(self, count: int) -> float:
        """Return when that many watch: the seconds of processor time that they have used."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(count, file=self._process.stdin)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the monitors' keeper ended with {self._process.wait()}")
        return float(line)

    def close(self) -> None:
        """Send all home."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


# -- the trainer's side ------------------------------------------------------------------------


@contextlib.contextmanager
def two_cores() -> Iterator[tuple[int, int] | None]:
    """Keep this process on one core; that one and the one for the others. None if there is none."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        yield None
        return
    before = os.sched_getaffinity(0)
    ours, theirs = sorted(before)[:2]
    os.sched_setaffinity(0, {ours})
    try:
        yield ours, theirs
    finally:
        os.sched_setaffinity(0, before)


class Blocks:
    """Counts the steps of a run into blocks with so many monitors each."""

    def __init__(self, crowd: Crowd, rounds: int, seconds: float) -> None:
        self.times: list[Round] = [{n: [] for n in CROWDS} for _ in range(rounds)]
        self._crowd, self._seconds = crowd, seconds
        # Every other round backwards, so that a drift of the machine favours nobody.
        self._plan = [
            (number, count)
            for number in range(rounds)
            for count in (CROWDS if number % 2 == 0 else CROWDS[::-1])
        ]
        self._at = -1
        self._skip = WARMUP
        self._begins = 0.0
        self._block: list[Clocks] = []
        self._last, self._ends = clocks(), 0.0

    def step(self) -> None:
        """Called as each step begins. Raises SystemExit after the last block."""
        wall, cpu = clocks()
        if self._skip:
            self._skip -= 1
        elif wall >= self._begins:
            self._block.append((wall - self._last[0], cpu - self._last[1]))
        enough = len(self._block) >= LEAST_STEPS if self._at >= 0 else self._skip == 0
        if enough and wall >= self._ends:
            self._next()
        self._last = clocks()

    def _next(self) -> None:
        if self._at >= 0:
            number, count = self._plan[self._at]
            self.times[number][count] = self._block
        self._at += 1
        if self._at == len(self._plan):
            raise SystemExit(0)
        self._crowd.gather(self._plan[self._at][1])
        self._block = []
        self._begins = time.perf_counter() + SETTLE_SECONDS
        self._ends = self._begins + self._seconds


def step_times(shape: str, rounds: int, seconds: float) -> tuple[list[Round], str]:
    """Every step's seconds, by round and number of monitors; and how the cores were shared."""
    with contextlib.ExitStack() as stack:
        cores = stack.enter_context(two_cores())
        from trainer.loop.training import Training

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runs = folder / "runs"
        runs.mkdir()
        settings = {**_MODEL, **SHAPES[shape], "data.path": str(write_tokens(folder / "t.bin", 65))}
        settings["train.seq_len"] = settings["model.max_seq_len"]
        crowd = Crowd(runs, cores[1] if cores else None)
        stack.callback(crowd.close)
        blocks = Blocks(crowd, rounds, seconds)
        console = stack.enter_context((folder / "console").open("w"))
        stack.enter_context(contextlib.redirect_stdout(console))
        session, writer = open_run(settings, runs, blocks.step)
        with contextlib.suppress(SystemExit), writer:
            Training(session, writer).run()
    pinned = f"trainer on core {cores[0]}, monitors on core {cores[1]}" if cores else "not pinned"
    return blocks.times, pinned


def median(steps: list[Clocks], clock: int) -> float:
    """The middle of the steps' seconds, by the wall clock (0) or of the processor (1)."""
    return statistics.median(step[clock] for step in steps)


def p95(steps: list[Clocks]) -> float:
    """What one step in twenty takes longer than, by the wall clock."""
    return statistics.quantiles((step[0] for step in steps), n=20)[18]


FIGURES: dict[str, Callable[[list[Clocks]], float]] = {
    "median": lambda steps: median(steps, 0),
    "p95": p95,
    "median CPU time": lambda steps: median(steps, 1),
}


def measure(*, quick: bool = False) -> Result:
    """Both shapes, watched by nobody, one and ten."""
    rows: list[Row] = []
    worst, pinned = -1.0, ""
    bounds: list[str] = []
    for shape in SHAPES:
        rounds, pinned = step_times(shape, 2 if quick else ROUNDS, BLOCK_SECONDS)
        for count in CROWDS:
            pooled = [step for steps in rounds for step in steps[count]]
            who = f"{shape}, {count} monitor{'' if count == 1 else 's'}"
            for name, figure in FIGURES.items():
                value = figure(pooled) * 1e3
                if not count:
                    rows.append(Row(f"{who}: {name}", value, "ms"))
                    continue
                found = ratio((figure(steps[count]), figure(steps[0])) for steps in rounds)
                rows.append(Row(f"{who}: {name}", value, "ms", "unwatched", found.middle))
                if name == "median":
                    worst = max(worst, found.middle - 1)
                    bounds.append(f"{who}: {found.as_change}")
    hold = Hold(
        f"the median step grows by < {HOLD_GROWTH:.0%}",
        f"{worst:.2%} (the worst of them)",
        worst < HOLD_GROWTH,
    )
    return Result(
        rows,
        [hold],
        [
            f"Cores: {pinned}; each step on one thread.",
            f"The median step changes by, at 95 %: {'; '.join(bounds)}.",
            "By the clock, unless it says CPU time: that is what the trainer's own thread used.",
        ],
    )


def main() -> int:
    """Measure and print."""
    return run_alone(__doc__, measure)


if __name__ == "__main__":
    sys.exit(main())
