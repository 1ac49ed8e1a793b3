"""What a sweep varies: lists and ranges of values, as `--set` names them."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from shared.errors import UserError
from shared.text import one_line
from trainer.config.resolve import Settings, assignment, known_keys, parse_assignment, parse_yaml

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
_DIGITS = 3  # of a number drawn from a range: more would not be read


@dataclass(frozen=True)
class Values:
    """The values that a key takes, one after the other."""

    key: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.key}: {', '.join(value_text(value) for value in self.values)}"


@dataclass(frozen=True)
class Range:
    """A key whose values are drawn between two bounds: whole numbers between whole bounds."""

    key: str
    low: float
    high: float
    whole: bool = False

    @property
    def by_log(self) -> bool:
        """Whether the logarithm is uniform: where zero is not among the values."""
        return self.low > 0

    def draw(self, generator: random.Random) -> float:
        """One value of the range."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if self.by_log:
            found = math.exp(generator.uniform(math.log(low), math.log(high)))
        else:
            found = generator.uniform(low, high)
        rounded = round(found) if self.whole else float(f"{found:.{_DIGITS}g}")
        return min(max(rounded, int(self.low) if self.whole else self.low), self.high)

    def __str__(self) -> str:
        kind = "log-uniform" if self.by_log else "uniform"
        whole = "whole numbers, " if self.whole else ""
        return f"{self.key}: {whole}{kind} in {self.low:g}..{self.high:g}"


Axis = Values | Range


def parse_axes(assignments: Iterable[str]) -> tuple[Settings, list[Axis]]:
    """The settings that every run has, and what differs, from `KEY=VALUE[,VALUE…]` each.

    A value is YAML: one with a comma in it needs quotes or brackets. `LOW..HIGH` is a range. Raises
    UserError for a key or value that cannot be read, and for one that is given twice.
    """
    fixed: Settings = {}
    axes: dict[str, Axis] = {}
    for text in assignments:
        axis = _parse(text)
        if axis.key in fixed or axis.key in axes:
            raise UserError(
                f"--set {one_line(axis.key, 60)} is given twice; list its values in one: "
                f"--set {one_line(axis.key, 60)}=A,B."
            )
        if isinstance(axis, Values) and len(axis.values) == 1:
            fixed[axis.key] = axis.values[0]
        else:
            axes[axis.key] = axis
    for key in axes:
        _refuse(key)
    return fixed, list(axes.values())


def _parse(text: str) -> Axis:
    key, sign, listed = text.partition("=")
    if not sign or not listed.strip():
        parse_assignment(text)  # says what is wrong
    key = key.strip()
    found = _RANGE.fullmatch(listed.strip())
    if found:
        return _range(key, *found.groups())
    values = _listed(listed)
    at_an_end = "," in (listed.strip()[0], listed.strip()[-1])
    if at_an_end or (values is None and re.search(r",\s*,", listed)):
        raise UserError(
            f"--set {one_line(text, 80)!r} has an empty value; leave out the comma, or write null."
        )
    if values is None:
        return Values(key, (parse_assignment(text)[1],))  # says what is wrong, if anything is
    ranges = [v for v in values if isinstance(v, str) and _RANGE.fullmatch(v)]
    if ranges:
        raise UserError(
            f"--set {one_line(key, 60)} mixes the range {one_line(ranges[0], 60)} with values; "
            "give one or the other."
        )
    return Values(key, tuple(values))


def _listed(text: str) -> list[Any] | None:
    """The values between commas; None where the text is no list of values."""
    try:
        values = parse_yaml(f"[{text}]")
    except yaml.YAMLError:
        return None
    return values if isinstance(values, list) else None


def _range(key: str, low: str, high: str) -> Range:
    bounds = float(low), float(high)
    whole = all(re.fullmatch(r"[-+]?\d+", text) for text in (low, high))
    if not all(map(math.isfinite, bounds)) or bounds[0] >= bounds[1]:
        raise UserError(
            f"--set {one_line(key, 60)}={low}..{high} is not a range: its first number must be the "
            "smaller one."
        )
    return Range(key, *bounds, whole=whole)


#: What cannot differ between the runs of a sweep, with the reason.
_NOT_SWEPT = {
    "name": "the runs of a sweep are named by what differs; name the sweep with --group",
    "checkpoint.dir": "each run of a sweep has its own checkpoints folder",
}


def _refuse(key: str) -> None:
    if key in _NOT_SWEPT:
        raise UserError(f"--set {key} cannot be swept: {_NOT_SWEPT[key]}.")


def value_text(value: Any) -> str:
    """A value for people, on one line: `0.001`, `muon+adamw`, `[q_proj, v_proj]`."""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, str):
        return one_line(value)
    return one_line(assignment("", value).removeprefix("="))


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """A short name for each dotted key: `lr` for `optim.learning_rate`, as long as no two agree."""
    keys = list(keys)
    short = {key: _SHORT.get(key, key.rpartition(".")[2]) for key in keys}
    taken = list(short.values())
    return {key: key if taken.count(short[key]) > 1 else short[key] for key in keys}


_SHORT = {"optim.learning_rate": "lr", "train.seed": "seed", "optim.name": "optim"}


def unknown_keys(axes: Iterable[Axis]) -> list[str]:
    """The keys of axes that no configuration has."""
    known = set(known_keys())
    return [axis.key for axis in axes if axis.key not in known]
