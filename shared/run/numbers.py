"""The metrics of a step as plain numbers, and the best loss among them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from shared.json_text import is_number

_EXACT = 1 << 53  # up to which a float holds every integer
_PLAIN = frozenset({float, int, str, bool, type(None)})


def plain_all(values: dict[str, Any]) -> None:
    """Make every value of `values` `plain`."""
    if _PLAIN.issuperset(map(type, values.values())):
        return
    for key, value in values.items():
        if type(value) not in _PLAIN:
            values[key] = plain(value)


def plain(value: Any) -> Any:
    """The number in a numpy scalar or a one-element tensor; anything else unchanged."""
    if type(value) in _PLAIN:
        return value
    try:
        return value.item()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return value


def as_float(value: object) -> float | None:
    """`value` as a float; None for anything that is not a number."""
    try:
        return float(value) if is_number(value) else None  # type: ignore[arg-type]
    except OverflowError:
        return None


def shortest(value: float) -> str:
    """The shortest text that parses to the same number."""
    if math.isfinite(value) and value == int(value) and abs(value) <= _EXACT:
        return str(int(value)) if value or math.copysign(1.0, value) > 0 else "-0.0"
    return repr(value)


def step_changes(state: Mapping[str, Any], step: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The changes to a state by the metrics of a finished step.

    The state shows `loss`, `val_loss`, `tokens_total`, `tokens_per_second` and `mfu`.
    """
    changes: dict[str, Any] = {"current_step": step}
    if "loss" in metrics:
        changes["current_loss"] = as_float(metrics["loss"])
    if "val_loss" in metrics:
        changes["val_loss"] = as_float(metrics["val_loss"])
    for key in ("tokens_total", "tokens_per_second"):
        if is_number(metrics.get(key)):
            changes[key] = metrics[key]
    if "mfu" in metrics:  # unknown as soon as the run continues on another device
        changes["mfu"] = metrics["mfu"] if is_number(metrics["mfu"]) else None
    return {**changes, **new_best(state, step, metrics)}


#: What may decide which step is best, the first that there is.
DECIDING = ("val_reward", "reward_mean", "val_loss")
REWARDS = frozenset(DECIDING[:2])


def is_better(metric: str, value: float, than: float) -> bool:
    """Whether a value of a metric beats another: a reward that is higher, a loss that is lower."""
    return value > than if metric in REWARDS else value < than


def new_best(state: Mapping[str, Any], step: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The changes to a state whose best loss is improved by these metrics; empty otherwise.

    `val_loss` counts once there is one, and `loss` until then. Where answers are rewarded it is
    `val_reward`, or `reward_mean` until then, and a higher one is better.
    """
    metric, best = state["best_metric"], state["best_loss"]
    key = next((key for key in DECIDING if key == metric or key in metrics), "loss")
    value = as_float(metrics.get(key))
    if value is None or not math.isfinite(value):
        return {}
    if key == metric and best is not None and not is_better(key, value, best):
        return {}
    return {"best_loss": value, "best_step": step, "best_metric": key}
