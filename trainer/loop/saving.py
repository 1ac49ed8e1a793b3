"""When checkpoints are saved: on schedule, on request, after a failure, and at the end."""

from __future__ import annotations

import time
from collections.abc import Callable

from shared.errors import RunError
from shared.run_writer import RunWriter
from trainer.checkpoint.saving import Snapshot
from trainer.loop.hooks import Hooks, nothing
from trainer.loop.keeper import ALARM, CheckpointKeeper
from trainer.loop.session import Session
from trainer.loop.signals import StopSignals
from trainer.loop.step_policy import StepPolicy
from trainer.loop.validation import Validation


class Saving:
    """Decides when `keeper` saves. After non-finite steps nothing is saved: the previous checkpoint
    is better.
    """

    def __init__(
        self,
        session: Session,
        writer: RunWriter,
        keeper: CheckpointKeeper,
        *,
        policy: StepPolicy,
        validation: Validation,
        settle: Callable[[], object] = nothing,
    ) -> None:
        """`settle` brings records and judgement up to the present step."""
        self._session = session
        self._writer = writer
        self._keeper = keeper
        self._policy = policy
        self._validation = validation
        self._settle = settle

    def save_if_due(self, *, retry: bool) -> None:
        """Save in the background, if the schedule asks for it; `retry`: or a failed save."""
        if not (retry or self.is_due(self._session.progress.step)):
            return
        self._settle()
        step = self._session.progress.step
        if self._policy.bad.count or not 0 < step < self._session.max_steps:
            return
        if retry or self._session.group.decided(self._is_wanted):
            self._complete_position()
            self._keeper.save_beside()

    def is_due(self, step: int) -> bool:
        """Whether the schedule has a checkpoint of `step`."""
        config = self._session.config
        return step % (config.checkpoint.interval * config.steps_per_iteration) == 0

    def _is_wanted(self) -> bool:
        """Whether the configuration wants a checkpoint of a step with what its validation found."""
        cost = self._validation.cost
        if self._session.config.checkpoint.always_save or cost is None:
            return True
        self._keeper.wait()
        best = self._keeper.best_saved()
        return best is None or cost < best

    @property
    def possible(self) -> bool:
        """Whether the last steps were finite, so that they may be saved."""
        return not self._policy.bad.count

    def save(self) -> None:
        """Save the current step before returning. Raises RunError."""
        if not self.possible:
            raise RunError("the last steps were not finite: the previous checkpoint is better")
        self._complete_position()
        self._keeper.save()

    def save_on_stopping(self) -> str:
        """Save; returns what to add to the reason of the stop, which stands in any case."""
        if not self.possible:
            self._keeper.wait()
            return "; the last steps were not finite and were not saved"
        try:
            self.save()
        except RunError as error:
            self._writer.say(f"[WARN] {error}")
            return f"; the last step was not saved: {error}"
        return ""

    def save_last(self, signals: StopSignals, hooks: Hooks) -> None:
        """Save the last step and make `final/`; if the disk refuses, try again for a while.

        Somebody may just be clearing the disk, and the run has reached its end.
        """
        self._complete_position()
        last = self._keeper.take()
        self._session.group.decided(lambda: self._write_last(last, signals, hooks))

    def _write_last(self, last: Snapshot | None, signals: StopSignals, hooks: Hooks) -> None:
        deadline = time.monotonic() + self._session.config.stability.directory_grace
        while True:
            try:
                self._keeper.write(last)
                last = None
                self._keeper.finish()
                self._writer.update(durable=True)  # what is said next must be written too
                return
            except (RunError, OSError):
                if time.monotonic() > deadline:
                    raise
            self._writer.say(f"[WARN] The last step is not saved yet; trying again ({ALARM})")
            self._wait(min(hooks.retry_seconds, deadline - time.monotonic()), signals)

    def _wait(self, seconds: float, signals: StopSignals) -> None:
        deadline = time.monotonic() + max(0.0, seconds)
        while time.monotonic() < deadline:
            if signals.received:
                raise RunError(f"{signals.received} received before the last step was saved")
            self._writer.progress()
            time.sleep(0.1)

    def _complete_position(self) -> None:
        """Add to the position what a checkpoint keeps of validation and spikes."""
        progress = self._session.progress
        if self._session.config.data.dataset == "prompts":
            progress.loss = None  # it says nothing about the model
        progress.val_loss = self._validation.now("val_loss")
        progress.val_reward = self._validation.now("val_reward")
        progress.recent_losses = self._policy.recent_losses
