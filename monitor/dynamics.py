"""The recent dynamics of a run: slope, gap, gradient norm, spikes. No screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.data.main_metric import beside, is_cost
from monitor.data.views import RunDetail
from shared.run.advice import Advice, advise
from shared.run.metrics_rows import Floats, Series
from shared.run.records import PHASES, PhaseTransition

WINDOW_SHARE = 0.1  # of the steps; what "lately" means
MIN_WINDOW, MAX_WINDOW = 50, 20_000  # values
ADVISED = 8_000  # values that advice looks at
_ANY = set(PHASES)
SPIKE_Z = 6.0  # robust deviations above the window's median
_NORMAL = 1.4826  # the median absolute deviation of a normal distribution, as one sigma


@dataclass(frozen=True)
class Dynamics:
    """The last window of the metric `key` of one run. Slopes are per 1000 steps; None: unknown.

    `slope` is the least-squares line through the finite values, `noise` the deviation from it,
    both in the units of the metric; `trend` says in a word what they mean together. `gap` is the
    newest value of its validation less the mean in training around that step.
    """

    key: str = "loss"
    first_step: int = 0
    last_step: int = 0
    values: int = 0
    mean: float | None = None
    slope: float | None = None
    noise: float | None = None
    trend: str = ""
    gap: float | None = None
    gap_before: float | None = None
    val_step: int | None = None
    gradient_norm: float | None = None
    gradient_median: float | None = None
    gradient_max: float | None = None
    gradient_max_step: int | None = None
    spikes: tuple[tuple[int, float], ...] = ()
    nonfinite: int = 0
    advice: tuple[Advice, ...] = ()


def dynamics(detail: RunDetail, main: str = "") -> Dynamics:
    """The dynamics of the last tenth of the run; cheap however long the run is.

    They are those of the metric `main`, where the run has it, else of its loss.
    """
    loss = detail.series.get(main, detail.loss)
    if not len(loss):
        return Dynamics()
    others = {detail.val_loss.key: detail.val_loss, **detail.series}
    evaluated = next((others[key] for key in beside(loss.key, others)), None)
    count = min(len(loss), MAX_WINDOW, max(MIN_WINDOW, int(len(loss) * WINDOW_SHARE)))
    steps, values = loss.steps[-count:], loss.values[-count:]
    finite = np.isfinite(values)
    x, y = steps[finite].astype(np.float64), values[finite]
    slope, noise = _line(x, y)
    gap, val_step = _gap(evaluated, loss, -1)
    gap_before, _ = _gap(evaluated, loss, -2)
    norm = detail.series.get("gradient_norm")
    present, median, largest, at = _norms(norm, int(steps[0]))
    return Dynamics(
        key=loss.key,
        first_step=int(steps[0]),
        last_step=int(steps[-1]),
        values=count,
        mean=float(y.mean()) if len(y) else None,
        slope=slope,
        noise=noise,
        trend=_trend(slope, noise, x),
        gap=gap,
        gap_before=gap_before,
        val_step=val_step,
        gradient_norm=present,
        gradient_median=median,
        gradient_max=largest,
        gradient_max_step=at,
        spikes=_spikes(x, y),
        nonfinite=count - len(y),
        advice=tuple(_advice(loss, evaluated, detail)) if is_cost(loss.key) else (),
    )


def _advice(loss: Series, evaluated: Series | None, detail: RunDetail) -> list[Advice]:
    throughput = detail.series.get("tokens_per_second")
    rate = detail.series.get("learning_rate")
    first = _stage_begins(detail.transitions)
    validation, throughput, rate = (
        None if series is None else _thin(_since(series, first))
        for series in (evaluated, throughput, rate)
    )
    return advise(_thin(_since(loss, first)), validation, throughput, rate)


def _stage_begins(transitions: Sequence[PhaseTransition]) -> int:
    """The step at which the present stage began, such as a larger model's: the curves before it
    tell nothing of it. 0 in a run without stages."""
    own = [t.step for t in transitions if t.from_phase and not {t.from_phase, t.to} <= _ANY]
    return own[-1] if own else 0


def _since(series: Series, first: int) -> Series:
    at = int(np.searchsorted(series.steps, first))
    return Series(series.key, series.steps[at:], series.values[at:])


def _thin(series: Series) -> Series:
    """Every nth value, so that there are not too many to look at."""
    every = -(-len(series) // ADVISED) or 1
    return Series(series.key, series.steps[::every], series.values[::every])


def _line(x: Floats, y: Floats) -> tuple[float | None, float | None]:
    """Slope per 1000 steps, and the deviation of what is left."""
    if len(x) < 3 or x[-1] == x[0] or not np.abs(y).max() < 1e150:
        return None, None
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    rest = y - y.mean() - slope * centred
    return 1000 * slope, float(np.sqrt(np.mean(rest**2)))


def _trend(slope: float | None, noise: float | None, x: Floats) -> str:
    """ "falling" or "rising" if the slope is at least three standard errors from zero."""
    if slope is None or noise is None:
        return ""
    spread = float(np.sqrt(((x - x.mean()) ** 2).sum()))
    error = 1000 * noise / spread if spread else math.inf
    if abs(slope) <= 3 * error:
        return "level"
    return "falling" if slope < 0 else "rising"


def _gap(val: Series | None, loss: Series, index: int) -> tuple[float | None, int | None]:
    """Validation less training loss at the last but `index` evaluation."""
    if val is None or len(val) < -index or not math.isfinite(float(val.values[index])):
        return None, None
    step = int(val.steps[index])
    end = int(np.searchsorted(loss.steps, step, "right"))
    around = loss.values[max(0, end - MIN_WINDOW) : end]
    around = around[np.isfinite(around)]
    if not len(around):
        return None, None
    return float(val.values[index]) - float(around.mean()), step


def _norms(
    norm: Series | None, first_step: int
) -> tuple[float | None, float | None, float | None, int | None]:
    """Newest, median, largest of the window, and the step of the largest."""
    if norm is None or not len(norm):
        return None, None, None, None
    start = max(int(np.searchsorted(norm.steps, first_step)), len(norm) - MAX_WINDOW)
    values, steps = norm.values[start:], norm.steps[start:]
    finite = np.isfinite(values)
    if not finite.any():
        return float(norm.values[-1]), None, None, None
    at = int(np.argmax(np.where(finite, values, -np.inf)))
    return (
        float(norm.values[-1]),
        float(np.median(values[finite])),
        float(values[at]),
        int(steps[at]),
    )


def _spikes(x: Floats, y: Floats) -> tuple[tuple[int, float], ...]:
    """Where the loss was far above its median: at most twelve places, the newest last."""
    if len(y) < MIN_WINDOW // 2:
        return ()
    median = float(np.median(y))
    deviation = _NORMAL * float(np.median(np.abs(y - median)))
    if not deviation > 0:
        return ()
    places = np.flatnonzero(y > median + SPIKE_Z * deviation)[-12:]
    return tuple((int(x[i]), float(y[i])) for i in places)
