"""The position of a session in the run's state."""

from __future__ import annotations

from shared.run_writer import RunWriter
from trainer.loop.session import Session


def show_position(session: Session, writer: RunWriter) -> None:
    """Bring the state to the session's position: bests of lost steps are lost with them."""
    progress = session.progress
    writer.update(
        best_loss=progress.best_loss,
        best_step=progress.best_step,
        best_metric=progress.best_metric,
        current_step=progress.step,
        tokens_total=progress.tokens_total,
        evaluations_without_improvement=progress.evaluations_without_improvement,
    )
