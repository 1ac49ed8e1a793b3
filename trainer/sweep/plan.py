"""The runs of a sweep: points of a grid, or random ones, each with the same seeds. Pure."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.errors import UserError
from shared.json_text import encode_json
from shared.text import one_line, plural
from trainer.config.resolve import Settings
from trainer.sweep.axes import Axis, Range, Values, short_names, value_text

SEED = "train.seed"
MOST_RUNS = 10_000
_LONGEST_VALUE = 24  # characters of a value in a name
_LONGEST_NAME = 90
_TRIES = 100  # draws for a point that is not there yet


@dataclass(frozen=True)
class Point:
    """Settings that a run has beside those of all; `seed` is one of several, None: the only one."""

    settings: Settings = field(default_factory=dict)
    seed: int | None = None

    @property
    def swept(self) -> Settings:
        """Everything in which it may differ from others, the seed last."""
        return self.settings if self.seed is None else {**self.settings, SEED: self.seed}


def grid(axes: Sequence[Axis]) -> list[Settings]:
    """Every combination of values; the last axis changes fastest.

    Raises UserError for a range, and where there are too many.
    """
    ranges = [axis for axis in axes if isinstance(axis, Range)]
    if ranges:
        raise UserError(
            f"--set {one_line(ranges[0].key, 60)} is a range, which has no grid; give --random N "
            "for N points of it, or list its values."
        )
    values = [axis.values for axis in axes if isinstance(axis, Values)]
    _check_count(math.prod(map(len, values)))
    keys = [axis.key for axis in axes]
    return [dict(zip(keys, chosen, strict=True)) for chosen in itertools.product(*values)]


def random_points(axes: Sequence[Axis], count: int, seed: int = 0) -> list[Settings]:
    """`count` different points, the same ones for the same axes and `seed`.

    Without a range they are points of the grid. Raises UserError where there are fewer.
    """
    if count < 1:
        raise UserError(f"--random is {count}; it must be at least 1.")
    _check_count(count)
    if not axes:
        raise UserError("--random needs something to vary: --set KEY=LOW..HIGH or KEY=A,B.")
    generator = random.Random(seed)
    if all(isinstance(axis, Values) for axis in axes):
        size = math.prod(len(axis.values) for axis in axes if isinstance(axis, Values))
        if count > size:
            raise UserError(
                f"--random is {count}, but the grid has {plural(size, 'point')}; leave --random "
                "out for all of them."
            )
        # Not `grid`: a large one need not exist for a few points of it.
        return [_point_at(index, axes) for index in generator.sample(range(size), count)]
    found: dict[bytes, Settings] = {}
    for _ in range(_TRIES * count):
        point = {axis.key: _drawn(axis, generator) for axis in axes}
        found.setdefault(identity(point), point)
        if len(found) == count:
            return list(found.values())
    raise UserError(
        f"--random is {count}, but the ranges have only about {plural(len(found), 'point')}; ask "
        "for fewer, or widen them."
    )


def _point_at(index: int, axes: Sequence[Axis]) -> Settings:
    """The point with this number in the order of `grid`."""
    point: Settings = {}
    for axis in reversed(axes):
        assert isinstance(axis, Values)
        index, at = divmod(index, len(axis.values))
        point[axis.key] = axis.values[at]
    return {axis.key: point[axis.key] for axis in axes}


def _drawn(axis: Axis, generator: random.Random) -> Any:
    if isinstance(axis, Range):
        return axis.draw(generator)
    return generator.choice(axis.values)


def _check_count(count: int) -> None:
    if count > MOST_RUNS:
        raise UserError(f"That is a sweep of {count:,} runs; at most {MOST_RUNS:,} are queued.")


def paired(points: Iterable[Settings], seeds: Sequence[int]) -> list[Point]:
    """Every point with every seed: all points with the first one, then with the second one…

    So all points are seen early, and differences between them can be taken seed by seed.
    """
    points = list(points)
    _check_count(len(points) * len(seeds))
    return [Point(point, seed) for seed in seeds for point in points]


def identity(settings: Settings) -> bytes:
    """Equal for equal settings, whatever their order."""
    return encode_json(dict(sorted(settings.items())))


def names_of(swept: Sequence[Settings]) -> list[str]:
    """A readable name for each run, of what differs, no two the same: `lr=0.001,seed=1`."""
    short = short_names(dict.fromkeys(key for settings in swept for key in settings))
    names: dict[str, None] = {}
    for settings in swept:
        parts = [f"{short[key]}={_value(value)}" for key, value in settings.items()]
        name = plain = one_line(",".join(parts) or "run", _LONGEST_NAME)
        number = 1
        while name in names:  # cut values may look alike
            number += 1
            name = f"{plain}#{number}"
        names[name] = None
    return list(names)


def _value(value: Any) -> str:
    text = value_text(value).replace(" ", "").replace(",", "+").strip("[]{}'\"")
    return one_line(text, _LONGEST_VALUE) or "''"
