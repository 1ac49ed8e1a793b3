"""Rust by reinforcement learning: a small model before, after, and with more supervised training.

Generated tasks with their solutions and real Rust are what a Llama shape of 2M parameters learns
from, on one thread. From each seed's model two go on: `trainer rl` on the training tasks, judged by
rustc and the tests, and more supervised training that takes the processor time of that. All three
then answer tasks of held-out templates, at temperature 1; no template of theirs was trained on, and
nothing was chosen by them. Intervals hold 95 %, over templates, whose answers are pooled over the
seeds. Afterwards the first seed's models answer exercism's tasks, which no model of this size can
be expected to solve. Every step is a command of the trainer.

    python -m benchmarks.rl_rust [--seeds N] [--steps N] [--iterations N] [--data DIR] [--work DIR]
                                 [--quick] [--page docs/experiments.md] [--log FILE]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.experiments import ROOT, run
from benchmarks.record import Result, Row
from benchmarks.rl_rust_stages import Arm, Point, Sizes, Stages, write_log
from benchmarks.trials import mean
from trainer.evaluate.suites.intervals import Interval, mean_interval, rate_interval

TITLE = "Rust by reinforcement learning"
RATES = ("parsed", "compiled", "tested")
_NAMES = {"parsed": "parse", "compiled": "compile", "tested": "pass their tests"}
ARMS = ("before", "RL", "supervised, equal time")
#: What the production guide promises.
GUIDE = {
    ("before", "compiled"): "guide 60 to 80 %",
    ("RL", "compiled"): "guide 95 to 100 %",
    ("RL", "parsed"): "guide 100 %",
}
_MOST_BYTES, _MOST_MS = 100e6, 100.0


@dataclass(frozen=True)
class Rate:
    """A share of answers with its interval."""

    value: float
    interval: Interval

    def __str__(self) -> str:
        low, high = (100 * bound for bound in self.interval)
        return f"{100 * self.value:.1f} % ({low:.1f} to {high:.1f})"


def rate(arms: Sequence[Arm], what: str) -> Rate:
    """The share of answers of all seeds; templates are what may scatter."""
    counts: dict[str, list[int]] = {}
    for arm in arms:
        for answer in arm.answers:
            of_one = counts.setdefault(answer.group, [0, 0])
            of_one[0] += getattr(answer, what)
            of_one[1] += 1
    pairs = [(got, tried) for got, tried in counts.values()]
    got, tried = (sum(column) for column in zip(*pairs, strict=True))
    return Rate(got / tried, rate_interval(pairs))


def gain(ours: Sequence[Arm], theirs: Sequence[Arm], what: str) -> Rate:
    """How much larger a share is, on the same tasks and seeds, by the bootstrap over templates."""
    sums: dict[str, list[float]] = {}
    for sign, arms in ((1, ours), (-1, theirs)):
        for arm in arms:
            for answer in arm.answers:
                of_one = sums.setdefault(answer.group, [0.0, 0.0])
                of_one[0] += sign * getattr(answer, what)
                of_one[1] += 0.5  # each answer of one side has its pair on the other
    pairs = [(total, count) for total, count in sums.values()]
    total, count = (sum(column) for column in zip(*pairs, strict=True))
    return Rate(total / count, mean_interval(pairs))


def measure(stages: Stages, seeds: int, log: Path | None = None) -> Result:
    """All seeds, one after the other."""
    arms: dict[str, list[Arm]] = {name: [] for name in ARMS}
    for seed in range(1, seeds + 1):
        before = stages.supervised(seed)
        learned = stages.rl(seed)
        arms["before"].append(before)
        arms["RL"].append(learned)
        arms["supervised, equal time"].append(stages.longer(seed, learned.cpu, before.cpu))
    exercism = {name: found for name in ARMS[:2] if (found := stages.exercism(1, name)) is not None}
    size, milliseconds = stages.gguf_bytes(1), stages.milliseconds(1)
    if log is not None:
        write_log(log, stages.done, arms, exercism)
    rows = [*_rates(arms), *_costs(arms)]
    rows.append(Row("GGUF in F16 (guide: below 100 MB)", size / 1e6, "MB"))
    rows.append(Row("an answer, median (guide: below 100 ms)", milliseconds, "ms"))
    notes = [
        *_differences(arms, seeds),
        *_exercism(exercism),
        _aims(size, milliseconds),
        *stages.notes(),
        "\n\n".join((_curve([arm.curve for arm in arms["RL"]]), *_samples(arms["RL"][0]))),
    ]
    return Result(rows, [], notes)


def _rates(arms: dict[str, list[Arm]]) -> list[Row]:
    rows = []
    for name, found in arms.items():
        for what in RATES:
            one = rate(found, what)
            low, high = (100 * bound for bound in one.interval)
            told = f"{name}: {_NAMES[what]} ({low:.1f} to {high:.1f}"
            aim = GUIDE.get((name, what))
            rows.append(Row(f"{told}; {aim})" if aim else f"{told})", 100 * one.value, "%"))
    return rows


def _costs(arms: dict[str, list[Arm]]) -> list[Row]:
    return [
        Row(f"{name}: time", mean([arm.cpu for arm in found]) / 60, "min of CPU")
        for name, found in arms.items()
    ]


def _differences(arms: dict[str, list[Arm]], seeds: int) -> list[str]:
    notes = []
    for other in ("before", "supervised, equal time"):
        for what in ("compiled", "tested"):
            found = gain(arms["RL"], arms[other], what)
            each = [
                gain([a], [b], what).value for a, b in zip(arms["RL"], arms[other], strict=True)
            ]
            better = sum(one > 0 for one in each)
            low, high = (100 * bound for bound in found.interval)
            notes.append(
                f"RL against {other}, {_NAMES[what]}: {100 * found.value:+.1f} points "
                f"({low:+.1f} to {high:+.1f}), better in {better} of {seeds}."
            )
    return notes


def _exercism(found: dict[str, Arm]) -> list[str]:
    notes = []
    for name, arm in found.items():
        shares = ", ".join(f"{_NAMES[what]} {rate([arm], what)}" for what in RATES)
        notes.append(
            f"exercism, {name}: {len(arm.answers)} answers, {shares}; "
            f"{arm.no_room} had no room in the context."
        )
    return notes


def _aims(size: int, milliseconds: float) -> str:
    small, fast = size < _MOST_BYTES, milliseconds < _MOST_MS
    return (
        f"The guide's size {'holds' if small else 'does not hold'}, and its speed "
        f"{'holds' if fast else 'does not'}."
    )


def _curve(curves: Sequence[Sequence[Point]], stretches: int = 8) -> str:
    """Means over all seeds and over `stretches` of iterations of equal length."""
    length = max(1, len(curves[0]) // stretches)
    told = []
    for first in range(0, len(curves[0]), length):
        points = [point for curve in curves for point in curve[first : first + length]]
        reward, compiled = mean([p.reward for p in points]), mean([p.compiled for p in points])
        told.append(f"{points[0].iteration}: {reward:.3f} and {100 * compiled:.0f} %")
    return (
        f"On training tasks, mean reward and share that compiles from iteration {', '.join(told)}."
    )


def _samples(arm: Arm) -> list[str]:
    """One answer that passes its tests and one that does not, in fences of their own."""
    chosen = [
        next((one for one in arm.answers if one.tested is right and one.program), None)
        for right in (True, False)
    ]
    told = ("An answer after RL that passes its tests", "One that does not")
    return [
        f"{title}:\n\n```rust\n{answer.program.rstrip()}\n```"
        for title, answer in zip(told, chosen, strict=True)
        if answer is not None
    ]


def main() -> int:
    """Run the study."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    sizes = Sizes()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=sizes.steps)
    parser.add_argument("--iterations", type=int, default=sizes.iterations)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, help="keeps everything, and continues what is there")
    parser.add_argument("--quick", action="store_true", help="a look at whether it runs")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--log", type=Path, help="JSON Lines of every command, rate and curve")
    options = parser.parse_args()
    sizes = replace(sizes, steps=options.steps, iterations=options.iterations)
    if options.quick:
        sizes = sizes.quick()
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or Path(folder)).absolute()
        stages = Stages.in_folder(work, options.data.absolute(), sizes)
        found = partial(measure, stages, 1 if options.quick else options.seeds, options.log)
        told = f"rl_rust --seeds {options.seeds} --steps {sizes.steps}"
        command = f"{told} --iterations {sizes.iterations}"
        return run(TITLE, __doc__, command, found, options.page)


if __name__ == "__main__":
    sys.exit(main())
