"""Loss spikes and non-finite steps: what counts as one, and how many came in a row."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from operator import mul

from trainer.config.schema import StabilityConfig
from trainer.loop.step import StepResult

MIN_LOSSES = 16  # with fewer losses in the window, nothing counts as a spike
SUM_ERROR = 1e-6  # of the mean: more than a running sum is off by
LARGE = 1e4  # a loss whose rounding errors do not stay in the running sum
MIN_DEVIATION = 0.01  # of the mean: a ripple in a flat curve is not a spike


class SpikeWindow:
    """The last finite losses. Those of skipped steps count too, so a new level soon becomes normal.

    The z-score of a loss is its distance from their mean in standard deviations. OLMo-core's
    SkipStepOptimizer uses the same window.
    """

    def __init__(self, config: StabilityConfig, losses: Iterable[float] = ()) -> None:
        self._losses: deque[float] = deque(losses, maxlen=config.spike_window)
        self._sum, self._added = sum(self._losses), 0
        self._window = config.spike_window
        self._zscore = config.spike_zscore

    @property
    def losses(self) -> list[float]:
        """The losses in the window, oldest first."""
        return list(self._losses)

    def threshold(self) -> float:
        """The loss above which the next step is a spike; infinite with too few losses."""
        mean, deviation = self._level()
        return mean + self._zscore * deviation

    def has(self, loss: float) -> bool:
        """Whether `loss` is a spike."""
        count = len(self._losses)
        mean = self._sum / count if count else math.inf
        # No spike is lower, whatever the deviation. The running sum is a little off, so that a
        # little is left to the threshold itself, which takes far longer.
        least = mean + (self._zscore * MIN_DEVIATION - SUM_ERROR) * abs(mean)
        return loss > least and loss > self.threshold()

    def zscore(self, loss: float) -> float:
        """How many standard deviations `loss` lies above the window's mean."""
        mean, deviation = self._level()
        return (loss - mean) / deviation if math.isfinite(deviation) else 0.0

    def add(self, loss: float) -> None:
        """Add a step's loss, unless it is not finite."""
        if not math.isfinite(loss):
            return
        losses = self._losses
        oldest = losses[0] if len(losses) == self._window else 0.0
        losses.append(loss)
        self._sum += loss - oldest
        self._added += 1
        if self._added % self._window == 0 or abs(oldest) > LARGE:
            self._sum = sum(losses)

    def _level(self) -> tuple[float, float]:
        count = len(self._losses)
        if count < min(MIN_LOSSES, self._losses.maxlen or MIN_LOSSES):
            return 0.0, math.inf
        mean = sum(self._losses) / count
        variance = sum(map(mul, self._losses, self._losses)) / count - mean * mean
        return mean, max(math.sqrt(max(0.0, variance)), MIN_DEVIATION * abs(mean))


@dataclass(frozen=True)
class BadStep:
    """The first of several steps in a row whose loss or gradient was not finite."""

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
    """Counts steps in a row whose loss or gradient was not finite."""

    def __init__(self) -> None:
        self.count = 0
        self.first: BadStep | None = None

    def add(self, step: int, result: StepResult) -> None:
        """Count a bad step."""
        self.count += 1
        if self.first is None:
            self.first = BadStep(
                step, result.loss, result.gradient_norm, result.learning_rate, result.layer
            )

    def clear(self) -> None:
        """Reset the count."""
        self.count, self.first = 0, None
