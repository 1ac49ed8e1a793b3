"""A sweep before it is queued: every run's configuration, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from shared.errors import UserError
from shared.json_text import MAX_INT
from shared.text import format_count, one_line, plural
from trainer.checkpoint.hub_models import Download
from trainer.config.resolve import Settings, flatten, resolve, to_plain
from trainer.config.schema import Config
from trainer.launch.beginning import Layers
from trainer.launch.checks import check_ahead
from trainer.launch.new_training import Given, Tools, begun, finished
from trainer.launch.request import LaunchRequest, choose_length
from trainer.sweep.axes import Axis, unknown_keys, value_text
from trainer.sweep.groups import new_group
from trainer.sweep.plan import SEED, Point, grid, identity, names_of, paired, random_points

_TOLD = 8  # problems, and values of a key
_MOST_SEEDS = 1000


@dataclass(frozen=True)
class Asked:
    """What `trainer sweep` was asked for, beside what every new run is asked for.

    `count` random points, or None for the whole grid; `seeds` of each point, or None for the one
    that is configured.
    """

    axes: Sequence[Axis]
    count: int | None = None
    random_seed: int = 0
    seeds: int | None = None
    group: str | None = None
    limit: int | None = None

    def check(self) -> None:
        """Raise UserError for numbers that cannot be, and for a sweep of nothing."""
        for option, value in (("--seeds", self.seeds), ("--max-parallel", self.limit)):
            if value is not None and value < 1:
                raise UserError(f"{option} is {value}; it must be at least 1.")
        if self.seeds is not None and self.seeds > _MOST_SEEDS:
            raise UserError(f"--seeds is {self.seeds}; it must be at most {_MOST_SEEDS:,}.")
        if not self.axes and (self.seeds is None or self.seeds == 1):
            raise UserError(
                "Nothing is varied: give --set KEY=A,B with several values, or --seeds N."
            )
        if self.seeds is not None and any(axis.key == SEED for axis in self.axes):
            raise UserError(
                f"--seeds {self.seeds} and --set {SEED} are both given; give one of them."
            )
        if unknown := unknown_keys(self.axes):
            resolve(dict.fromkeys(unknown))  # names the nearest ones

    def points(self) -> list[Settings]:
        """The points, without seeds."""
        if self.count is None:
            return grid(self.axes)
        return random_points(self.axes, self.count, self.random_seed)


@dataclass(frozen=True)
class Planned:
    """A run of a sweep: its name, what is swept with the values it has, and what it will take."""

    name: str
    swept: Settings
    config: Config
    tokens: int
    max_steps: int


@dataclass(frozen=True)
class Sweep:
    """The runs of a group that can be queued; `limit` of them train at the same time."""

    group: str
    axes: tuple[Axis, ...]
    runs: tuple[Planned, ...]
    points: int
    seeds: tuple[int, ...] = ()
    limit: int | None = None
    random_seed: int | None = None

    @property
    def tokens(self) -> int:
        """Of all runs together."""
        return sum(run.tokens for run in self.runs)

    def describe(self) -> list[str]:
        """What will be trained, as lines for a person."""
        count = len(self.runs)
        parts = [plural(self.points, "point")]
        if self.random_seed is not None:
            parts[0] = plural(self.points, "random point") + f" (seed {self.random_seed})"
        if self.seeds:
            parts.append(plural(len(self.seeds), "seed"))
        each = sorted({run.tokens for run in self.runs})
        share = f"{format_count(each[0])} each"
        if len(each) > 1:
            share = f"{format_count(each[0])} to {format_count(each[-1])} each"
        lines = [
            f"{plural(count, 'run')} in group {self.group}: {' x '.join(parts)}",
            f"{format_count(self.tokens)} tokens in all, {share}",
            *(f"  {axis}" for axis in self.axes),
        ]
        if self.seeds:
            lines.append(f"  {SEED}: {_listed(self.seeds)}")
        if self.limit is not None:
            lines.append(f"at most {plural(self.limit, 'run')} of it at the same time")
        return [one_line(line, 1000) for line in lines]

    def to_json(self) -> dict[str, Any]:
        """The same for `--json`."""
        return {
            "group": self.group,
            "runs": [
                {
                    "name": run.name,
                    "swept": run.swept,
                    "max_steps": run.max_steps,
                    "tokens": run.tokens,
                }
                for run in self.runs
            ],
            "points": self.points,
            "seeds": list(self.seeds),
            "tokens": self.tokens,
            "max_parallel": self.limit,
            "random_seed": self.random_seed,
        }


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(value_text(value) for value in values[:_TOLD])
    return shown + (", …" if len(values) > _TOLD else "")


def plan_sweep(asked: Asked, base: Layers, given: Given, runs_dir: Path, tools: Tools) -> Sweep:
    """Check every run of a sweep as `train` would; nothing is queued.

    `base` are the settings of all. Raises UserError that names every wrong value.
    """
    asked.check()
    given.check(base.flags)
    points = asked.points()
    tools = Tools(_cached(tools.download), tools.progress, _Once(tools.tell))

    def layers(settings: Settings) -> Layers:
        own = replace(base, flags={**base.flags, **settings})
        choose_length(own.flags)
        return begun(own, given, runs_dir, tools, "sweep")

    # All values are checked before any data are prepared.
    layered = _each(points, layers)
    resolved = _each(layered, lambda one: resolve(*one.in_order))
    first = resolved[0]
    if any(config.checkpoint.dir is not None for config in resolved):
        raise UserError(
            "checkpoint.dir is set, and each run of a sweep has its own checkpoints folder; leave "
            "it out."
        )
    seeds = [first.train.seed + i for i in range(asked.seeds)] if asked.seeds else []
    if seeds and seeds[-1] > MAX_INT:
        raise UserError(f"The seed {seeds[0]} is too large for {len(seeds)} seeds from there.")
    group = new_group(asked.group, first.name, runs_dir)
    configs = _each(layered, lambda one: finished(one, given, runs_dir, tools))
    by_point = {identity(point): config for point, config in zip(points, configs, strict=True)}
    members = paired(points, seeds) if seeds else [Point(point) for point in points]
    chosen = [_with_seed(by_point[identity(m.settings)], m) for m in members]
    swept = [_swept_of(config, asked.axes, m) for config, m in zip(chosen, members, strict=True)]
    _refuse_twins(swept)
    named = [
        config.model_copy(update={"name": name})
        for config, name in zip(chosen, names_of(swept), strict=True)
    ]
    # Seeds change nothing that is checked, so one run of each point stands for all.
    first_of = {identity(m.settings): n for n, m in reversed(list(enumerate(members)))}
    checked = _each(
        [named[n] for n in first_of.values()], lambda one: check_ahead(LaunchRequest(one))
    )
    steps = {point: one.plan.max_steps for point, one in zip(first_of, checked, strict=True)}
    runs = [
        Planned(config.name, own, config, max_steps * config.tokens_per_step, max_steps)
        for config, own, max_steps in zip(
            named, swept, (steps[identity(m.settings)] for m in members), strict=True
        )
    ]
    return Sweep(
        group=group,
        axes=tuple(asked.axes),
        runs=tuple(runs),
        points=len(points),
        seeds=tuple(seeds),
        limit=asked.limit,
        random_seed=None if asked.count is None else asked.random_seed,
    )


class _Once:
    """Says each note once, however many runs it is about."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._said: set[str] = set()

    def __call__(self, note: str) -> None:
        if note not in self._said:
            self._said.add(note)
            self._tell(note)


def _cached(download: Download) -> Download:
    """Each model once."""
    known: dict[Any, Any] = {}

    def once(name: Any) -> Any:
        if name not in known:
            known[name] = download(name)
        return known[name]

    return once


One = TypeVar("One")
Other = TypeVar("Other")


def _each(items: Sequence[One], work: Callable[[One], Other]) -> list[Other]:
    """`work` of every item. Raises UserError with every different problem."""
    found: list[Other] = []
    problems: dict[str, UserError] = {}
    for item in items:
        try:
            found.append(work(item))
        except UserError as error:
            problems.setdefault(str(error), error)
    if len(problems) == 1:
        raise next(iter(problems.values()))
    if problems:
        told = list(problems)[:_TOLD]
        more = len(problems) - len(told)
        lines = "".join(f"\n  - {problem}" for problem in told)
        rest = f"\n  - and {more:,} more" if more else ""
        raise UserError(f"The sweep has {len(problems)} problems:{lines}{rest}")
    return found


def _with_seed(config: Config, point: Point) -> Config:
    if point.seed is None:
        return config
    train = config.train.model_copy(update={"seed": point.seed})
    return config.model_copy(update={"train": train})


def _swept_of(config: Config, axes: Sequence[Axis], point: Point) -> Settings:
    """What is swept, with the values as the configuration has them."""
    plain = flatten(to_plain(config))
    keys = [axis.key for axis in axes] + ([] if point.seed is None else [SEED])
    return {key: plain.get(key) for key in keys}


def _refuse_twins(swept: Sequence[Settings]) -> None:
    """Raise UserError where two runs would be the same."""
    seen: set[bytes] = set()
    for settings in swept:
        own = identity(settings)
        if own in seen:
            told = ", ".join(f"{key} {value_text(value)}" for key, value in settings.items())
            raise UserError(f"Two runs would be the same: {one_line(told, 300)} is given twice.")
        seen.add(own)
