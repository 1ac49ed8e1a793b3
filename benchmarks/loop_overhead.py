"""What the loop costs besides the arithmetic: batch, metrics, state, control, log lines.

The real loop trains a small model on one thread. Of every turn, the time inside the loss, its
backward pass, clipping and the optimizer is taken away; what is left is overhead, as a share of a
step of 50 ms. Once alone, once while another process reads the records as a monitor does, every
50 ms. Hold: <= 0.5 %.

    python -m benchmarks.loop_overhead [--quick]
"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.record import Hold, Result, Row, run_alone
from benchmarks.training_run import open_run, write_tokens

STEP_SECONDS = 0.050
HOLD_SHARE = 0.005
WARMUP = 50  # steps
POLL = 0.05  # seconds between looks of the reader

_MODEL = {
    "model.flavour": "gpt2",
    "model.vocab_size": 65,
    "train.device": "cpu",
    "train.threads": 1,
}
SHAPES: dict[str, dict[str, Any]] = {
    # Steps of some milliseconds give many of them; those of tens of milliseconds leave the
    # caches as cold as training does.
    "small step": {
        "model.hidden_size": 64,
        "model.num_layers": 2,
        "model.max_seq_len": 64,
        "train.batch_size": 4,
    },
    "50 ms step": {
        "model.hidden_size": 128,
        "model.num_layers": 4,
        "model.max_seq_len": 64,
        "train.batch_size": 12,
    },
}


class Arithmetic:
    """Adds up the seconds inside what it is wrapped around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, with its time added up."""

        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started

        return call

    @contextlib.contextmanager
    def watching(self, session: Any) -> Iterator[None]:
        """While entered, loss, backward, clipping and optimizer of `session` are timed."""
        import torch

        backward, clip = torch.Tensor.backward, torch.nn.utils.clip_grad_norm_
        session.model.loss = self.timed(session.model.loss)
        session.optimizer.step = self.timed(session.optimizer.step)
        session.optimizer.zero_grad = self.timed(session.optimizer.zero_grad)
        torch.Tensor.backward = self.timed(backward)  # type: ignore[method-assign]
        torch.nn.utils.clip_grad_norm_ = self.timed(clip)  # type: ignore[assignment]
        try:
            yield
        finally:
            torch.Tensor.backward = backward  # type: ignore[method-assign]
            torch.nn.utils.clip_grad_norm_ = clip  # type: ignore[assignment]


def read_like_a_monitor(folder: str) -> None:
    """Follow every record of the runs in `folder` until terminated."""
    from shared.heartbeat import read_beat
    from shared.metrics_log import parse_lines
    from shared.run_directory import RunDirectory
    from shared.tail import Tailer

    tailers: dict[Path, Tailer] = {}
    while True:
        for path in Path(folder).iterdir():
            run = RunDirectory(path)
            if not run.state_path.is_file():
                continue
            run.read_state()
            read_beat(run.heartbeat_path)
            for log in (run.metrics_path, run.events_path):
                parse_lines(tailers.setdefault(log, Tailer(log)).read().lines)
        time.sleep(POLL)


def overhead(shape: dict[str, Any], steps: int, *, watched: bool) -> list[float]:
    """Seconds of every step after the warmup that were not spent in the arithmetic."""
    from trainer.loop.training import Training

    arithmetic = Arithmetic()
    turns: list[tuple[float, float]] = []

    def turn() -> None:
        turns.append((time.perf_counter(), arithmetic.seconds))

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tokens = write_tokens(folder / "train.bin", 65)
        settings = {**_MODEL, **shape, "train.max_steps": WARMUP + steps + 1}
        settings |= {"data.path": str(tokens), "train.seq_len": shape["model.max_seq_len"]}
        runs = folder / "runs"
        runs.mkdir()
        # What the loop prints goes into a file, as in a run started with nohup.
        console = stack.enter_context((folder / "console").open("w"))
        stack.enter_context(contextlib.redirect_stdout(console))
        session, writer = open_run(settings, runs, turn)
        if watched:
            reader = multiprocessing.get_context("spawn").Process(
                target=read_like_a_monitor, args=(str(runs),), daemon=True
            )
            reader.start()
            stack.callback(reader.join)
            stack.callback(reader.terminate)
        with arithmetic.watching(session), writer:
            Training(session, writer).run()
    pairs = list(zip(turns, turns[1:], strict=False))[1 + WARMUP :]
    return [(t1 - t0) - (a1 - a0) for (t0, a0), (t1, a1) in pairs]


def measure(*, quick: bool = False) -> Result:
    """Both shapes, alone and watched."""
    rows: list[Row] = []
    typical = 0.0
    for name, shape in SHAPES.items():
        steps = (2000 if name == "small step" else 400) // (10 if quick else 1)
        for watched in (False, True):
            seconds = overhead(shape, steps, watched=watched)
            who = f"{name}, {'a reader polling' if watched else 'alone'}"
            median = statistics.median(seconds)
            p99 = statistics.quantiles(seconds, n=100)[98]
            mean = statistics.fmean(seconds)
            rows.append(Row(f"{who}: median", median * 1e6, "µs"))
            rows.append(Row(f"{who}: mean", mean * 1e6, "µs"))
            rows.append(Row(f"{who}: p99", p99 * 1e6, "µs"))
            typical = max(typical, median)
    share = typical / STEP_SECONDS
    number = f"≤ {HOLD_SHARE:.1%} of a {STEP_SECONDS * 1000:.0f} ms step"
    hold = Hold(number, f"{share:.2%} (the worst median)", share <= HOLD_SHARE)
    return Result(rows, [hold], ["Clock time: mean and p99 include other processes' turns."])


def main() -> int:
    """Measure and print."""
    return run_alone(__doc__, measure)


if __name__ == "__main__":
    sys.exit(main())
