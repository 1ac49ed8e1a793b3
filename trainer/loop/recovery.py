"""After too many non-finite steps: roll back to a checkpoint, or give up."""

from __future__ import annotations

from shared.errors import RunError
from shared.run_writer import RunWriter
from shared.text import plural
from trainer.loop.keeper import CheckpointKeeper
from trainer.loop.position import show_position
from trainer.loop.rollback import roll_back
from trainer.loop.session import Session
from trainer.loop.stability import BadSteps


class DivergedError(RunError):
    """Training diverged: the loss is not finite and rolling back did not help."""


class Recovery:
    """Rolls a session back to its last good checkpoint, past the data since."""

    def __init__(self, session: Session, writer: RunWriter, keeper: CheckpointKeeper) -> None:
        self._session = session
        self._writer = writer
        self._keeper = keeper

    def go_back(self, bad: BadSteps) -> None:
        """Roll back. Raises DivergedError after too many rollbacks."""
        session, writer = self._session, self._writer
        progress = session.progress
        if session.group.decided(self._last_saved) >= progress.rolled_back_from:
            progress.rollbacks = 0  # since the last one, training got further
        if progress.rollbacks >= session.config.stability.rollbacks:
            self._give_up(bad)
        done = roll_back(session, self._keeper)
        message = f"{_in_a_row(bad.count)} not finite ({bad.first}): {done}"
        writer.event("rolled_back", **vars(done), message=message)
        writer.say(f"[WARN] {message}")
        show_position(session, writer)

    def _last_saved(self) -> int:
        """The step of the last save, once no save is running."""
        self._keeper.wait()
        return self._keeper.last_saved_step

    def _give_up(self, bad: BadSteps) -> None:
        progress, first = self._session.progress, bad.first
        count = progress.rollbacks
        message = (
            f"Training diverged and {plural(count, 'rollback')} did not help: "
            f"{first}; continue from {self._writer.state.latest_checkpoint or 'the start'} with a "
            "lower --learning-rate."
        )
        self._writer.event(
            "diverged",
            message=message,
            first_bad_step=first.step if first else progress.step,
            layer=first.layer if first else "",
            learning_rate=first.learning_rate if first else None,
        )
        raise DivergedError(message)


def _in_a_row(count: int) -> str:
    return "A step was" if count == 1 else f"{count} steps in a row were"
