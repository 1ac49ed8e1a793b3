"""When the loss leaps or is no number any more: what counts as a spike, when to go back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from operator import mul

from trainer.config.schema import StabilityConfig
from trainer.loop.step import StepResult

MIN_LOSSES = 16  # before there are that many, nothing counts as a spike
MIN_DEVIATION = 0.01  # of the mean: in a flat curve a ripple is no spike


class SpikeWindow:
    """The last finite losses, skipped ones included, so that a new level is soon a usual one.

    The z-score of a loss is its distance from their mean in standard deviations (as in OLMo-core's
    SkipStepOptimizer, where the same window is used).
    """

    def __init__(self, config: StabilityConfig, losses: Iterable[float] = ()) -> None:
        self._losses: deque[float] = deque(losses, maxlen=config.spike_window)
        self._zscore = config.spike_zscore

    @property
    def losses(self) -> list[float]:
        """What the window holds, oldest first."""
        return list(self._losses)

    def threshold(self) -> float:
        """The loss above which the next step is a spike; infinite while too little is known."""
        mean, deviation = self._level()
        return mean + self._zscore * deviation

    def zscore(self, loss: float) -> float:
        """How many standard deviations `loss` lies above the window's mean."""
        mean, deviation = self._level()
        return (loss - mean) / deviation if math.isfinite(deviation) else 0.0

    def add(self, loss: float) -> None:
        """Take a step's loss in, unless it is no number."""
        if math.isfinite(loss):
            self._losses.append(loss)

    def _level(self) -> tuple[float, float]:
        count = len(self._losses)
        if count < min(MIN_LOSSES, self._losses.maxlen or MIN_LOSSES):
            return 0.0, math.inf
        mean = sum(self._losses) / count
        variance = sum(map(mul, self._losses, self._losses)) / count - mean * mean
        return mean, max(math.sqrt(max(0.0, variance)), MIN_DEVIATION * abs(mean))


@dataclass(frozen=True)
class BadStep:
    """The first of some steps in a row without a finite loss and gradient."""

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    layer: str

    def __str__(self) -> str:
        return (
            f"first bad step {self.step} (loss {self.loss:g}, gradient norm "
            f"{self.gradient_norm:g}), largest gradient in {self.layer}, learning rate "
            f"{self.learning_rate:g}"
        )


class BadSteps:
    """Counts the steps in a row that were not finite."""

    def __init__(self) -> None:
        self.count = 0
        self.first: BadStep | None = None

    def add(self, step: int, result: StepResult) -> None:
        """Take note of a step, good or bad."""
        if result.finite:
            self.clear()
            return
        self.count += 1
        if self.first is None:
            self.first = BadStep(
                step, result.loss, result.gradient_norm, result.learning_rate, result.layer
            )

    def clear(self) -> None:
        """Begin again."""
        self.count, self.first = 0, None
