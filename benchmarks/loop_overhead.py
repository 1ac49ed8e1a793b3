"""What the loop costs on top of the arithmetic: batch, metrics, state, control, log lines.

The real loop trains a small model on one thread. The time inside the loss, its backward pass,
clipping and the optimizer is subtracted from every step; the rest is overhead, as a share of a 50
ms step. Measured alone, and while another process reads the records every 50 ms as a monitor does.
Beside it the same arithmetic without the loop: what is left there is the clock's own time and
Python's calls of torch. Hold: <= 0.5 %.

    python -m benchmarks.loop_overhead [--quick]
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.record import Hold, Result, Row, run_alone
from benchmarks.training_run import open_run, write_tokens

if TYPE_CHECKING:
    from shared.run_writer import RunWriter
    from trainer.loop.session import Session

STEP_SECONDS = 0.050
HOLD_SHARE = 0.005
WARMUP = 50  # steps
POLL = 0.05  # seconds between looks of the reader

Clocks = tuple[float, float]

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


def clocks() -> Clocks:
    """Now by the clock, and the processor time of this thread."""
    return time.perf_counter(), time.thread_time()


class Arithmetic:
    """Adds up the seconds, by both clocks, inside what it is wrapped around."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, with its time added up."""

        def call(*args: Any, **kwargs: Any) -> Any:
            wall, cpu = clocks()
            try:
                return function(*args, **kwargs)
            finally:
                wall_end, cpu_end = clocks()
                self.wall += wall_end - wall
                self.cpu += cpu_end - cpu

        return call

    @contextlib.contextmanager
    def watching(self, session: Any) -> Iterator[None]:
        """While entered, loss, backward, clipping and optimizer of `session` are timed."""
        import torch

        from trainer.loop import step
        from trainer.model.loss import Losses

        backward, clip = torch.Tensor.backward, step.clip_gradients
        forward = session.model.forward
        losses: list[torch.Tensor] = []

        def loss_kept(*batch: torch.Tensor, **weights: torch.Tensor | None) -> Losses:
            found: Losses = forward(*batch, **weights)
            # Only a tensor that is no view lets go of its graph.
            found = found._replace(total=found.total + 0)
            losses.append(found.total)
            return found

        def backward_and_free(loss: torch.Tensor) -> None:
            backward(loss)  # type: ignore[no-untyped-call]
            # Freeing the graph is arithmetic too; else it happens when the loop's step returns.
            loss.detach_()
            while losses:
                losses.pop().detach_()

        session.model.forward = self.timed(loss_kept)
        session.optimizer.step = self.timed(session.optimizer.step)
        session.optimizer.zero_grad = self.timed(session.optimizer.zero_grad)
        setattr(torch.Tensor, "backward", self.timed(backward_and_free))  # noqa: B010
        setattr(step, "clip_gradients", self.timed(clip))  # noqa: B010
        try:
            yield
        finally:
            setattr(torch.Tensor, "backward", backward)  # noqa: B010
            setattr(step, "clip_gradients", clip)  # noqa: B010


def read_like_a_monitor(folder: str) -> None:
    """Follow every record of the runs in `folder` until terminated."""
    from shared.ownership.heartbeat import read_beat
    from shared.run.directory import RunDirectory
    from shared.run.record_lines import parse_lines
    from shared.run.tail import Tailer

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


def train(session: Session, writer: RunWriter) -> None:
    """The loop."""
    from trainer.loop.training import Training

    with writer:
        Training(session, writer).run()


def calculate(session: Session, writer: RunWriter) -> None:
    """The arithmetic of as many steps, on one batch, with nothing around it."""
    from trainer.loop import step
    from trainer.loop.feed import Place

    sequences = session.plan.sequences_per_step
    place = Place(0, sequences, (sequences,))
    with writer:
        for _ in range(session.max_steps):
            (batch,) = session.feed.step(place).batches
            with session.autocast:
                losses = session.forward(*batch)
            losses.total.backward()
            step.clip_gradients(session.parameters, 1.0)
            session.optimizer.step(1e-4)
            session.optimizer.zero_grad()


def overhead(
    shape: dict[str, Any],
    steps: int,
    *,
    watched: bool,
    run: Callable[[Session, RunWriter], None] = train,
) -> list[Clocks]:
    """Seconds of every step after the warmup, by both clocks, less those of the arithmetic."""
    arithmetic = Arithmetic()
    turns: list[Clocks] = []

    def turn() -> None:
        wall, cpu = clocks()
        turns.append((wall - arithmetic.wall, cpu - arithmetic.cpu))

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
        with arithmetic.watching(session):
            run(session, writer)
    pairs = list(itertools.pairwise(turns))[1 + WARMUP :]
    return [(after[0] - before[0], after[1] - before[1]) for before, after in pairs]


def measure(*, quick: bool = False) -> Result:
    """Both shapes, alone and watched."""
    rows: list[Row] = []
    typical = 0.0
    for name, shape in SHAPES.items():
        steps = (2000 if name == "small step" else 400) // (10 if quick else 1)
        for watched in (False, True):
            both = overhead(shape, steps, watched=watched)
            wall, cpu = [times[0] for times in both], [times[1] for times in both]
            who = f"{name}, {'a reader polling' if watched else 'alone'}"
            median = statistics.median(wall)
            rows.append(Row(f"{who}: median", median * 1e6, "µs"))
            rows.append(Row(f"{who}: p99", statistics.quantiles(wall, n=100)[98] * 1e6, "µs"))
            rows.append(Row(f"{who}: median CPU time", statistics.median(cpu) * 1e6, "µs"))
            typical = max(typical, median)
        both = overhead(shape, steps, watched=False, run=calculate)
        for what, clock in (("median", 0), ("median CPU time", 1)):
            least = statistics.median(times[clock] for times in both)
            rows.append(Row(f"{name}, without the loop: {what}", least * 1e6, "µs"))
    share = typical / STEP_SECONDS
    number = f"≤ {HOLD_SHARE:.1%} of a {STEP_SECONDS * 1000:.0f} ms step"
    hold = Hold(number, f"{share:.2%} (the worst median)", share <= HOLD_SHARE)
    return Result(
        rows,
        [hold],
        ["Wall time unless marked as CPU time; p99 includes time given to other processes."],
    )


def main() -> int:
    """Measure and print."""
    return run_alone(__doc__, measure)


if __name__ == "__main__":
    sys.exit(main())
