"""`--decay-from CHECKPOINT`: a new run that takes a stable run's state and lets its rate decay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.checkpoints.catalogue import META
from shared.errors import UserError
from shared.files import read_json
from shared.text import one_line, plural
from trainer.checkpoint.references import owner_of_checkpoint, resolve_reference
from trainer.config.resolve import flatten, resolve
from trainer.config.schema import Config
from trainer.launch.request import LaunchRequest, absolute, choose_length
from trainer.optim.schedule import decay_start

#: Without a length of its own a branch decays over the last fifth of its steps (Hägele et al.
#: 2024): it is there to end a long trunk soon.
BRANCH_START = 0.8


def decay_request(reference: str, runs_dir: Path, overrides: Mapping[str, Any]) -> LaunchRequest:
    """A run that begins with the state of the checkpoint and decays from its step on.

    It ends after the steps in `overrides`, or where the decay has the share of all steps that
    `optim.decay_start` leaves it, if that is in `overrides` or the trunk decays itself; else
    where it has a fifth of them. The checkpoint and its run stay as they are, so any number of
    branches may begin there. Raises UserError.
    """
    (overrides,) = choose_length(dict(overrides))
    folder = resolve_reference(reference, runs_dir).find()
    meta = read_json(folder / META) or {}
    recorded, step = meta.get("config"), meta.get("step")
    if not isinstance(recorded, dict) or not isinstance(step, int):
        raise UserError(
            f"{one_line(folder)} cannot be continued: it has no {META} with its configuration and "
            "step."
        )
    trunk = resolve(flatten(recorded))
    _check_stable(trunk, folder, step)
    branch = {
        "name": f"{trunk.name}-decay",
        "checkpoint.dir": None,
        **dict.fromkeys(("train.epochs", "train.max_hours")),
        **overrides,
        "optim.schedule": "wsd",
        "optim.decay_step": step,
    }
    if branch.get("train.max_steps") is None and branch.get("train.epochs") is None:
        branch["train.max_steps"] = _steps(_share(trunk, flatten(recorded), overrides), step)
    config = absolute(resolve(flatten(recorded), branch))
    if config.train.max_steps is not None and config.train.max_steps <= step:
        raise UserError(
            f"--max-steps {config.train.max_steps} leaves no steps to decay in: {folder.name} has "
            f"{plural(step, 'step')} behind it, and --max-steps counts those too."
        )
    return LaunchRequest(config, None, folder)


def _share(trunk: Config, recorded: Mapping[str, Any], overrides: Mapping[str, Any]) -> float:
    """The share of a branch's steps at which its decay begins."""
    if "optim.decay_start" in overrides or trunk.optim.schedule == "wsd":
        return resolve(recorded, overrides).optim.decay_start
    return BRANCH_START


def _steps(share: float, step: int) -> int:
    """The total at which `step` lies at that share of it."""
    if not 0 < share < 1:
        raise UserError(
            f"optim.decay_start {share:g} does not say how long the decay is; give --max-steps."
        )
    return max(step + 1, math.ceil(step / share))


def _check_stable(trunk: Config, folder: Path, step: int) -> None:
    """Raise UserError unless the rate is at its peak at `step`."""
    optim = trunk.optim
    if step < optim.warmup_steps:
        raise UserError(
            f"{folder.name} is still in the warmup of {plural(optim.warmup_steps, 'step')}; choose "
            "a checkpoint after it."
        )
    if optim.schedule == "constant":
        return
    total = trunk.train.max_steps
    run = owner_of_checkpoint(folder)
    if total is None and run is not None:
        state = run.read_state()
        total = state.max_steps if state else None
    if total is None and optim.decay_step is None and optim.schedule == "wsd":
        raise UserError(
            f"{folder.name} does not say how many steps its run has, so it is not known whether "
            "its learning rate has begun to decay."
        )
    last = decay_start(optim, total or 0)
    if step > last:
        advice = f"choose one up to step {last}"
        if optim.schedule == "cosine":
            advice = "train the trunk with --set optim.schedule=constant or wsd"
        raise UserError(f"The learning rate of {folder.name} has begun to decay already; {advice}.")
