"""`train.patience`: training ends early when the validation loss no longer improves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import UserError
from shared.text import plural

if TYPE_CHECKING:
    from shared.run_writer import RunWriter
    from trainer.checkpoint.progress import Progress
    from trainer.config.schema import Config
    from trainer.loop.session import Session
    from trainer.loop.sources import Sources


def check_patience(config: Config, sources: Sources) -> None:
    """Raise UserError when the run could never stop early: it has no validation data."""
    if config.train.patience is not None and not sources.validation:
        raise UserError(
            f"train.patience is {config.train.patience}, but nothing is evaluated "
            f"({sources.description}); leave it out, or give validation data."
        )


def check_patience_left(config: Config, progress: Progress) -> None:
    """Raise UserError when a run that stopped early would stop again at once."""
    patience, count = config.train.patience, progress.evaluations_without_improvement
    if patience is not None and count >= patience:
        raise UserError(
            f"The run stopped early, after {plural(count, 'evaluation')} without a "
            f"{_better(config)}; give --patience with more than {count} to continue, or --set "
            "train.patience=null to ignore it."
        )


def _better(config: Config) -> str:
    """What an evaluation has to find."""
    rewarded = config.data.dataset == "prompts"
    return "higher validation reward" if rewarded else "lower validation loss"


class Patience:
    """Counts the evaluations in a row without a lower validation loss.

    The count belongs to the run's position, so it survives a resume and goes back in a rollback.
    """

    def __init__(self, session: Session, writer: RunWriter) -> None:
        self._session = session
        self._writer = writer

    def note(self, *, improved: bool) -> None:
        """Count an evaluation."""
        progress = self._session.progress
        count = 0 if improved else progress.evaluations_without_improvement + 1
        progress.evaluations_without_improvement = count
        self._writer.update(evaluations_without_improvement=count)

    @property
    def is_over(self) -> bool:
        """Whether training ends here."""
        patience = self._session.config.train.patience
        count = self._session.progress.evaluations_without_improvement
        return patience is not None and count >= patience

    def tell(self) -> str:
        """Record the early stop; returns the reason."""
        progress, state = self._session.progress, self._writer.state
        count = progress.evaluations_without_improvement
        reason = f"stopped early at step {progress.step} of {self._session.max_steps}: "
        reason += f"{plural(count, 'evaluation')} without a {_better(self._session.config)}"
        if state.best_loss is not None:
            reason += f" than {state.best_loss:.4f} of step {state.best_step}"
        self._writer.event("stopped_early", evaluations=count, message=reason)
        self._writer.say(f"[INFO] {reason[0].upper()}{reason[1:]}")
        return reason
