"""What is not as it was when the checkpoint to continue from was saved, and matters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shared.checkpoints.catalogue import META
from shared.errors import UserError
from shared.files import read_json
from shared.text import plural
from trainer.config.resolve import flatten, resolve
from trainer.optim.schedule import learning_rate

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.loop.plan import Plan

#: A rate that differs by less is a schedule's usual progress.
_JUMP = 1.05


def changes(planned: Plan, checkpoint: Path, max_steps_then: int | None) -> tuple[str, ...]:
    """Sentences about other data and a jump of the learning rate; empty if nothing changed.

    `max_steps_then` is the length the run had when it was last trained.
    """
    from trainer.checkpoint.progress import read_progress
    from trainer.loop.sources import data_changes

    progress, _ = read_progress(checkpoint)
    told = data_changes(progress.facts.get("data") or {}, planned.sources.identity)
    found = [f"The data has changed since the checkpoint: {'; '.join(told)}."] if told else []
    before = _configuration(checkpoint)
    if before is not None:
        found += _rate_jump(before, planned, progress.step, max_steps_then)
    return tuple(found)


def _rate_jump(before: Config, planned: Plan, step: int, max_steps_then: int | None) -> list[str]:
    total = before.train.max_steps or max_steps_then
    if total is None:
        return []
    optim, now_total = planned.config.optim, planned.max_steps
    then, now = learning_rate(before.optim, step, total), learning_rate(optim, step, now_total)
    low, high = sorted((then, now))
    if high <= low * _JUMP:
        return []
    why = "the settings of the rate have changed"
    if before.optim == optim.model_copy(update={"groups": before.optim.groups}):
        why = f"the run now has {plural(now_total, 'step')} instead of {total:,}"
    told = (
        f"The learning rate jumps from {then:.3g} to {now:.3g} at step {step}, because {why}; to "
        "keep it steady, resume with --set optim.schedule=constant --learning-rate "
        f"{then:.3g}."
    )
    return [told]


def _configuration(checkpoint: Path) -> Config | None:
    """The configuration a checkpoint was trained with; None if it does not say."""
    recorded = (read_json(checkpoint / META) or {}).get("config")
    if not isinstance(recorded, dict):
        return None
    try:
        return resolve(flatten(recorded))
    except UserError:  # of another version
        return None
