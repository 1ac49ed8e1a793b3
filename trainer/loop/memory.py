"""The run's micro-batch sizes: initial, found to fit, and remembered for the next attempt."""

from __future__ import annotations

from shared.run_writer import RunWriter
from shared.text import plural
from trainer.loop.hooks import Hooks
from trainer.loop.micro_batch import MicroBatch, largest_that_fits
from trainer.loop.out_of_memory import MICRO_BATCH
from trainer.loop.session import Session


class Memory:
    """Sequences at once, in steps (`training`) and in validation (`evaluation`).

    The size that a step was found to fit is kept in the run's state, for the next attempt.
    """

    def __init__(self, session: Session, writer: RunWriter, hooks: Hooks) -> None:
        self._session = session
        self._writer = writer
        self._hooks = hooks
        self.training = MicroBatch(self._starting_size(), self._remember)
        together = session.learner.parallel.can_wait
        evaluated = session.config.train.batch_size if together else self.training.size
        self.evaluation = MicroBatch(evaluated, self._tell)

    def _starting_size(self) -> int:
        """As configured, or smaller if an earlier attempt had to shrink it."""
        config, remembered = self._session.config, self._writer.state.micro_batch
        size = min(config.train.batch_size, self._session.sequences_here)
        if isinstance(config.train.micro_batch, int):
            size = min(config.train.micro_batch, self._session.sequences_here)
        told = int(self._session.group.remembered(MICRO_BATCH) or 0)
        return max(1, min(x for x in (size, remembered, told) if x))

    def fit(self) -> None:
        """With `micro_batch: auto`, find the largest size that fits, unless it is known."""
        writer, config = self._writer, self._session.config
        if config.train.micro_batch != "auto":
            return
        if writer.state.micro_batch is None:
            fits = largest_that_fits(self._session, self._hooks.before_forward)
            writer.update(micro_batch=self._session.group.smallest(fits))
        self.training.size = size = writer.state.micro_batch or config.train.batch_size
        parts = len(self.training.parts(self._session.sequences_here))
        writer.say(
            f"[INFO] {plural(size, 'sequence')} at once: {plural(parts, 'micro-batch', 'es')} "
            "per step"
        )

    def fit_again(self) -> None:
        """The model is a larger one: begin with as many sequences as configured, and find what fits
        where the configuration leaves that open."""
        self._writer.update(micro_batch=None)
        self.training.size = self._starting_size()
        self.fit()

    def _tell(self, old: int, new: int, error: str) -> None:
        writer = self._writer
        message = (
            f"out of memory with {plural(old, 'sequence')} at once, continuing with {new}: {error}"
        )
        writer.event("out_of_memory", micro_batch=old, retry_with=new, message=message)
        writer.say(f"[WARN] {message}")
        writer.progress()

    def _remember(self, old: int, new: int, error: str) -> None:
        self._tell(old, new, error)
        self._writer.update(micro_batch=new)
