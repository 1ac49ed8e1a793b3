"""Where the loop's own time goes in a step of about 50 ms, before and after a change.

The real loop trains the model of `loop_overhead`'s longer step on one thread. Every function below
is timed by itself: what it calls and what is arithmetic (loss, backward pass, clipping, optimizer)
counts elsewhere. Medians over the steps, in microseconds of processor time. With `--against REF`
the trainer of an older commit takes turns with the present one.

    python -m benchmarks.loop_profile [--against REF] [--steps N] [--rounds N]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WARMUP = 30  # steps
STEP_MICROSECONDS = 50_000

#: Arithmetic, which is not the loop's.
ARITHMETIC = (
    "trainer.model.language_model:LanguageModel.forward",
    "torch:Tensor.backward",
    "trainer.loop.step:clip_gradients",
    "trainer.optim.optimizer:Optimizer.step",
    "trainer.optim.optimizer:Optimizer.zero_grad",
)
#: What is timed, under the name in the table. A place that a tree does not have is left out.
TIMED = {
    "batch: cutting windows from the data": (
        "trainer.data.batches:TokenBatches.batch",
        "trainer.data.batches:TokenBatches.counted",
    ),
    "batch: arrays to tensors": (
        "trainer.loop.step:to_tensors",
        "trainer.loop.feed:to_tensors",
    ),
    "batch: handing it over": ("trainer.loop.feed:Feed.step",),
    "step: around forward and backward": ("trainer.loop.step:forward_backward",),
    "step: the rest": ("trainer.loop.training:train_step", "trainer.loop.stepping:launch_step"),
    "record: its figures": ("trainer.loop.records:StepRecords.write",),
    "record: line and state": (
        "shared.run_writer:RunWriter.log",
        "shared.run_writer:RunWriter.record",
    ),
    "record: write() of the line": ("shared.files:AppendLog.append",),
}
REST = "between the steps"


class Spans:
    """Adds up, per step, the seconds inside functions, each without what it calls."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._now: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []
        self._began = time.thread_time()

    def turn(self) -> None:
        """A step begins."""
        now = time.thread_time()
        whole = self._now
        whole[REST] = now - self._began - sum(whole.values())
        self.steps.append(dict(whole))
        self._now.clear()
        self._began = time.thread_time()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, with its own time added up under `name`."""
        inner, clock = self._inner, time.thread_time

        def call(*args: Any, **kwargs: Any) -> Any:
            inner.append(0.0)
            began = clock()
            try:
                return function(*args, **kwargs)
            finally:
                took = clock() - began
                self._now[name] += took - inner.pop()
                if inner:
                    inner[-1] += took

        return call

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """While entered, all places are timed."""
        with contextlib.ExitStack() as undo:
            for name, places in {**TIMED, "arithmetic": ARITHMETIC}.items():
                for place in places:
                    found = _find(place)
                    if found:
                        owner, attribute, old = found
                        setattr(owner, attribute, self.timed(name, _kept(place, old)))
                        undo.callback(setattr, owner, attribute, old)
            yield


def _find(place: str) -> tuple[Any, str, Any] | None:
    module, _, path = place.partition(":")
    *owners, attribute = path.split(".")
    try:
        owner: Any = importlib.import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        return owner, attribute, getattr(owner, attribute)
    except (ImportError, AttributeError):
        return None


def _kept(place: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The backward pass frees its graph at once: else that would count where the step returns."""

    def backward_and_free(loss: Any, *args: Any, **kwargs: Any) -> None:
        function(loss, *args, **kwargs)
        loss.detach_()

    def forward_to_free(*args: Any, **kwargs: Any) -> Any:
        losses = function(*args, **kwargs)
        # Only a tensor that is no view lets go of its graph.
        return losses._replace(total=losses.total + 0) if hasattr(losses, "total") else losses

    if place.endswith("Tensor.backward"):
        return backward_and_free
    return forward_to_free if place.endswith("Model.forward") else function


def profile(steps: int) -> dict[str, float]:
    """Median microseconds per step under each name."""
    from benchmarks.loop_overhead import _MODEL, SHAPES
    from benchmarks.training_run import open_run, write_tokens
    from trainer.loop.hooks import Hooks
    from trainer.loop.training import Training

    spans = Spans()
    shape = SHAPES["50 ms step"]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        tokens = write_tokens(folder / "train.bin", 65)
        settings = {**_MODEL, **shape, "train.max_steps": WARMUP + steps}
        settings |= {"data.path": str(tokens), "train.seq_len": shape["model.max_seq_len"]}
        console = stack.enter_context((folder / "console").open("w"))
        stack.enter_context(contextlib.redirect_stdout(console))
        stack.enter_context(spans.watching())
        session, writer = open_run(settings, folder / "runs")
        with writer:
            hooks = Hooks(before_step=lambda _training: spans.turn())
            Training(session, writer, hooks=hooks).run()
    kept = spans.steps[1 + WARMUP :]
    names = [*TIMED, REST, "arithmetic"]
    return {n: 1e6 * statistics.median(step.get(n, 0.0) for step in kept) for n in names}


def in_turns(trees: dict[str, Path], steps: int, rounds: int) -> dict[str, dict[str, float]]:
    """The least median of each figure over the rounds, for each tree."""
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name, tree in trees.items():
            command = [sys.executable, __file__, "--worker", "--steps", str(steps)]
            environment = {**os.environ, "PYTHONPATH": str(tree)}
            output = subprocess.run(
                command, cwd=tree, env=environment, check=True, stdout=subprocess.PIPE, text=True
            ).stdout
            found = json.loads(output.splitlines()[-1])
            old = best.setdefault(name, found)
            best[name] = {key: min(old[key], value) for key, value in found.items()}
    return best


def table(found: dict[str, dict[str, float]]) -> str:
    """The profiles side by side, and what they add up to."""
    lines = ["| µs per step | " + " | ".join(found) + " |", "|---|" + "---:|" * len(found)]
    rows = [name for name in next(iter(found.values())) if name != "arithmetic"]
    for row in rows:
        figures = [profile[row] for profile in found.values()]
        if any(figure >= 0.5 for figure in figures):
            lines.append(f"| {row} | " + " | ".join(f"{x:.0f}" for x in figures) + " |")
    sums = [sum(profile[row] for row in rows) for profile in found.values()]
    lines.append("| **all of it** | " + " | ".join(f"**{x:.0f}**" for x in sums) + " |")
    shares = [f"{x / STEP_MICROSECONDS:.2%}" for x in sums]
    lines.append("| of a 50 ms step | " + " | ".join(shares) + " |")
    arithmetic = [f"{p['arithmetic'] / 1000:.1f} ms" for p in found.values()]
    lines.append("| arithmetic, beside it | " + " | ".join(arithmetic) + " |")
    return "\n".join(lines)


def main() -> int:
    """Profile and print, or be one of the workers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--against", metavar="REF", help="also profile the trainer of that commit")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        found = profile(options.steps)
        print(json.dumps(found))
        return 0
    from benchmarks.machine import machine

    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        trees = {"now": ROOT}
        if options.against:
            old = Path(folder) / "old"
            git = ["git", "-C", str(ROOT), "worktree"]
            add = [*git, "add", "--detach", str(old), options.against]
            subprocess.run(add, check=True, capture_output=True)
            trees = {f"before ({options.against})": old, **trees}
        try:
            found = in_turns(trees, options.steps, options.rounds)
        finally:
            if options.against:
                subprocess.run([*git, "remove", "--force", str(old)], check=True)
    print(f"{where}\n\n{table(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
