"""What a changed setting of a training means for a run that is there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.text import one_line

#: Settings that do not decide what is learned. A run that continues takes them up; for one that is
#: complete they change nothing.
CARE = (
    "name",
    "log.",
    "hub.",
    "checkpoint.interval",
    "checkpoint.keep_last",
    "checkpoint.save_top_k",
    "checkpoint.always_save",
    "checkpoint.background",
    "checkpoint.dir",
    "distributed.",
    "stability.directory_grace",
    "eval.sample_",
    "train.device",
    "train.threads",
    "train.dtype",
    "train.compile",
    "train.parallel",
    "train.micro_batch",
    "train.grad_checkpoint_every",
    "train.loss_chunk_tokens",
    "train.vocab_multiple",
)
#: How far a run goes. One that is complete continues to a larger number.
LENGTH = ("train.max_steps", "train.epochs", "train.max_hours", "rl.iterations")
#: Settings that a run may change on its way, because they fit it to the machine.
ON_THE_WAY = ("train.batch_size", "train.accumulation_steps", "train.patience")
_SHOWN = 4


@dataclass(frozen=True)
class Change:
    """`changed` are new values for a run that continues; `repeats`: it must begin anew."""

    repeats: bool = False
    changed: Mapping[str, Any] = field(default_factory=dict)
    told: str = ""


def matters(key: str) -> bool:
    """Whether a setting decides what is learned."""
    return not key.startswith(CARE)


def changes_of(
    before: Mapping[str, Any], now: Mapping[str, Any], *, step: int, ended: bool
) -> Change:
    """What follows from two configurations of a run that has made `step` steps.

    `before` is empty where the old one cannot be read.
    """
    if not before:
        return Change(repeats=True, told="its configuration cannot be read")
    keys = [key for key in now if before.get(key, now[key]) != now[key] and key != "model.name"]
    changed = {key: now[key] for key in keys if matters(key)}
    told = differences_told({key: (before.get(key), now[key]) for key in changed})
    for key in changed:
        if key in LENGTH:
            shorter = _is_shorter(key, now[key], before.get(key))
            too_short = key == "train.max_steps" and (now[key] or 0) <= step
            if shorter and (ended or too_short):
                return Change(repeats=True, told=told)
        elif key not in ON_THE_WAY or ended:
            return Change(repeats=True, told=told)
    if ended:
        return Change(changed=changed, told=told)
    continued = {key: now[key] for key in keys if key not in ("name", "checkpoint.dir")}
    return Change(
        changed=continued,
        told=told
        or differences_told({key: (before.get(key), value) for key, value in continued.items()}),
    )


def _is_shorter(key: str, now: Any, before: Any) -> bool:
    """Whether a run would go less far. Without a limit of its hours it goes to its last step."""
    if now is None or before is None:
        return (now is None) != (key == "train.max_hours")
    return bool(now < before)


def differences_told(pairs: Mapping[str, tuple[Any, Any]]) -> str:
    """`optim.learning_rate 0.001 (was 0.01), …` for a person."""
    shown = [
        f"{key} {_value(now)} (was {_value(before)})"
        for key, (before, now) in list(pairs.items())[:_SHOWN]
    ]
    rest = len(pairs) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _value(value: Any) -> str:
    return "unset" if value is None else one_line(value, 80)
