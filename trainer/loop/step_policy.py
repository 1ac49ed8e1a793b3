"""Which updates are skipped, and when training has to go back."""

from __future__ import annotations

import math

from shared.run_writer import RunWriter
from shared.text import plural
from trainer.loop.session import Session
from trainer.loop.stability import BadSteps, SpikeWindow
from trainer.loop.step import StepResult


class StepPolicy:
    """Watches the losses of a run.

    `bad` counts the steps in a row whose loss or gradient was not finite; while there are any,
    nothing may be saved.
    """

    def __init__(self, session: Session, writer: RunWriter) -> None:
        self._session = session
        self._writer = writer
        self.bad = BadSteps()
        # The loss of answers that the model draws itself goes up and down around 0.
        self._can_spike = session.config.data.dataset != "prompts"
        self.restart()

    def restart(self) -> None:
        """Start with the losses that the session's position remembers."""
        self.bad.clear()
        session = self._session
        self._spikes = SpikeWindow(session.config.stability, session.progress.recent_losses)

    @property
    def recent_losses(self) -> list[float]:
        """The window for spikes, oldest first."""
        return self._spikes.losses

    def skip_above(self) -> float:
        """The loss above which the next update is skipped."""
        skips = self._session.plan.config.stability.skip_spikes
        return self._spikes.threshold() if skips else math.inf

    def judge(self, result: StepResult) -> bool:
        """Record what is wrong with a step. Returns whether training must roll back."""
        step, loss = result.position.step, result.loss
        if result.finite:
            if self._can_spike and self._spikes.has(loss):
                self._tell_spike(step, result)
            self._spikes.add(loss)
            if self.bad.count:
                self.bad.clear()
            return False
        self._spikes.add(loss)
        self.bad.add(step, result)
        self._tell_nonfinite(step, result)
        return self.bad.count >= self._session.config.stability.nonfinite_steps

    def _tell_spike(self, step: int, result: StepResult) -> None:
        writer, zscore = self._writer, self._spikes.zscore(result.loss)
        skipped = not result.updated
        writer.event("spike", step=step, loss=result.loss, zscore=zscore, skipped=skipped)
        what = "the update was skipped" if skipped else "the update was applied"
        writer.say(
            f"[WARN] step {step}: loss {result.loss:.4f} is a spike ({zscore:.1f} standard "
            f"deviations above the last {plural(len(self._spikes.losses), 'step')}): {what}"
        )

    def _tell_nonfinite(self, step: int, result: StepResult) -> None:
        writer = self._writer
        writer.event(
            "nonfinite", loss=result.loss, gradient_norm=result.gradient_norm, layer=result.layer
        )
        writer.say(
            f"[WARN] step {step}: loss {result.loss}, gradient norm {result.gradient_norm}: "
            "the update was skipped"
        )
