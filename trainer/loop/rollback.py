"""Rolling back to the last good checkpoint, past the data that made training diverge."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from shared.checkpoints.catalogue import newest_sound
from shared.errors import RunError
from shared.text import plural
from trainer.checkpoint.loading import load_training_state
from trainer.checkpoint.progress import Progress
from trainer.checkpoint.random_state import generator_seed
from trainer.loop.keeper import CheckpointKeeper
from trainer.loop.session import Session, load_first_weights


@dataclass(frozen=True)
class Rollback:
    """A rollback between two steps; `checkpoint` is empty if it went back to the start."""

    from_step: int
    to_step: int
    checkpoint: str
    skipped_samples: int

    def __str__(self) -> str:
        where = self.checkpoint or "the start"
        return (
            f"rolled back from step {self.from_step} to {where}, "
            f"past {plural(self.skipped_samples, 'sample')} of data"
        )


def roll_back(session: Session, keeper: CheckpointKeeper) -> Rollback:
    """Restore weights, optimizer and generators from the newest sound checkpoint, or the start.

    The position in the data is kept, so the window in between is not trained on again (as in PaLM,
    Chowdhery et al. 2022, section 5.1). Raises UserError if a checkpoint cannot be loaded, RunError
    if none can be found although there was one.
    """
    left = session.progress
    name = session.group.decided(lambda: _newest(keeper))
    if name:
        folder = keeper.folder / name
        session.enter_stage_of(folder)
        progress = load_training_state(folder, session.model, session.optimizer, session.group)
    else:
        progress = _begin_again(session)
    skipped = left.samples - progress.samples
    progress.samples = left.samples
    progress.rl = left.rl  # other prompts, as past other data
    progress.seconds = left.seconds
    # The checkpoint knows only the samples that were skipped before it was saved.
    progress.skipped_samples += skipped
    progress.rollbacks = left.rollbacks + 1
    progress.rolled_back_from = max(left.step, left.rolled_back_from)
    session.progress = progress
    keeper.rolled_back(progress.step)
    return Rollback(left.step, progress.step, name, skipped)


def _newest(keeper: CheckpointKeeper) -> str:
    """The name of the newest sound checkpoint; empty if none was ever saved. Raises RunError."""
    keeper.wait()
    newest, problems = newest_sound(keeper.folder)
    if newest is None and keeper.last_saved_step >= 0:
        reason = problems[0] if problems else f"{keeper.folder} cannot be read"
        raise RunError(f"There is no checkpoint to roll back to: {reason}.")
    return newest.name if newest else ""


def _begin_again(session: Session) -> Progress:
    """Reset the session to its start: no checkpoint has been saved yet."""
    session.enter_stage_of(None)
    seed = session.config.train.seed
    torch.manual_seed(generator_seed(seed, session.group.world.rank))
    session.model.initialize(seed)
    if session.begun_from is not None:
        load_first_weights(session.model, session.begun_from)
    session.optimizer.allocate()
    return Progress()
