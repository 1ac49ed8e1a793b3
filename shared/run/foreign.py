"""Records as other programs write them, turned into the form of our own.

Nested objects are flattened with dots, the step is found under another name, numbers and times may
be text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.json_text import Json, is_number

MAX_STEP = 1 << 53  # beyond it a float no longer counts steps
_MAX_DEPTH = 8
_MAX_FLAT = 10_000  # keys of one record

#: Keys that count steps in every record they are in.
_STEPS = (
    "step",
    "global_step",
    "_step",
    "trainer/global_step",
    "train/global_step",
    "train/step",
    "current_steps",
    "current_step",
    "train_step",
    "training_step",
    "iteration",
    "iter",
    "iteration_num",
    "iter_num",
    "n_iter",
    "step_num",
    "num_steps_done",
    "num_updates",
    "update",
)
_EPOCHS = ("epoch", "current_epoch", "epoch_num", "epochs")
#: What a key of one's own ends in, such as `stage2_step` or `probe.step`.
_OWN_STEP = re.compile(r"(?:^|[_./ -])(?:global_?)?(?:steps?|iter(?:ation)?s?|updates?)$", re.I)
_NOT_A_COUNT = re.compile(
    r"(?:^|[_./ -])(?:total|max|num_train|num_training|per|warm_?up|save|sav(?:e|ing)|log|logging"
    r"|eval|every|remaining|left|last|best|decay|grad\w*|accum\w*|seconds|time|config)(?=[_./ -])",
    re.I,
)
_CLOCKS = (
    "_timestamp",
    "timestamp",
    "wall_time",
    "walltime",
    "unix_time",
    "datetime",
    "created_at",
    "ts",
)
CLOCKS = frozenset(_CLOCKS)
_TOTALS = ("max_steps", "total_steps", "num_training_steps", "max_iters", "total_iters")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)

#: How good the step key of a record is: less is better.
OURS, OWN, EPOCH, NONE = 0, 1, 2, 3


@dataclass(frozen=True)
class StepKey:
    """The key that counts the steps of a record, and how good it is."""

    name: str
    tier: int


def text_number(text: str) -> float | None:
    """The number that `text` spells in decimal; None for anything else."""
    text = text.strip()
    return float(text) if len(text) < 40 and _NUMBER.fullmatch(text) else None


def text_time(text: str) -> float | None:
    """Unix seconds of an ISO 8601 time (UTC unless it says otherwise), or of a number."""
    if (seconds := text_number(text)) is not None:
        return seconds
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def flattened(record: Mapping[str, Any]) -> Json:
    """`record` with the values of nested objects under dotted keys; `nonfinite` stays as it is."""
    flat: Json = {}
    for key, value in _leaves(record, "", _MAX_DEPTH):
        if len(flat) >= _MAX_FLAT:
            break
        flat.setdefault(key, value)
    return flat


def _leaves(value: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if not isinstance(inner, dict) or key == "nonfinite":
            yield prefix + key, inner
        elif depth and inner:
            yield from _leaves(inner, f"{prefix}{key}.", depth - 1)


def step_key(record: Mapping[str, Any]) -> StepKey | None:
    """What counts the steps of a flat record: `step` itself, a usual name of it, or the like."""
    for name in _STEPS:
        if name in record and _counts(record[name]):
            return StepKey(name, OURS)
    found = [
        key
        for key, value in record.items()
        if _counts(value) and _OWN_STEP.search(key) and not _NOT_A_COUNT.search(key)
    ]
    if found:
        return StepKey(min(found, key=lambda key: key.count(".")), OWN)
    for name in _EPOCHS:
        if name in record and _counts(record[name]):
            return StepKey(name, EPOCH)
    return None


def _counts(value: object) -> bool:
    return is_number(value) or (isinstance(value, str) and text_number(value) is not None)


def read_step(raw: object) -> tuple[int | None, str]:
    """The step, and "" or what is the matter: `rounded down` of one that counts all the same."""
    number = text_number(raw) if isinstance(raw, str) else raw
    if not isinstance(number, (int, float)) or isinstance(number, bool):
        return None, "a step that is not a number"
    if math.isnan(number):
        return None, "a step that is NaN"
    if abs(number) > MAX_STEP:
        return None, "a step too large to count"
    if number < 0:
        return None, "a negative step"
    step = math.floor(number)
    return step, "" if step == number else "rounded down"


def total_steps(record: Mapping[str, Any]) -> int | None:
    """The steps that the run will take, where a record tells."""
    for name in _TOTALS:
        step, _ = read_step(record.get(name))
        if step:
            return step
    return None


def with_time(record: Json) -> Json:
    """`record` with its clock under `time`, if it has one under another name."""
    if "time" in record:
        return record
    for name in _CLOCKS:
        value = record.get(name)
        if is_number(value) or (isinstance(value, str) and text_time(value) is not None):
            return {("time" if key == name else key): value for key, value in record.items()}
    return record


def canonical(record: Mapping[str, Any]) -> tuple[Json, StepKey | None]:
    """A flat copy of `record` with its step under `step` and its clock under `time`.

    The step may still be no valid one; without a step key, there is no `step`.
    """
    flat = flattened(record)
    found = step_key(flat)
    if found is not None and found.name != "step":
        flat.pop("step", None)
        flat = {("step" if key == found.name else key): value for key, value in flat.items()}
    elif found is None and "step" in flat:
        found = StepKey("step", OURS)
    return with_time(flat), found
