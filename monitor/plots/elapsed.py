"""Seconds at each step of a run, by the clock or without the pauses, continued as it grows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitor.data.pyramid import Growing, unchanged
from shared.run.metrics_rows import Floats, Series

TIME, STEP_TIME = "time", "step_time_ms"
#: Without events that tell of pauses, a gap of so many seconds and so many times the usual is one.
_PAUSE, _TIMES = 60.0, 20.0


class Elapsed:
    """The elapsed seconds at each step of a run, from the clock or from the step times."""

    def __init__(self) -> None:
        self._source: Series | None = None
        self._seconds = Growing()
        self._origin = 0.0

    def update(self, source: Series) -> Series:
        """In O(new) while `source` only grows."""
        old = self._source
        kept = 0 if old is None or old.key != source.key else unchanged(old.values, source.values)
        if kept < self._seconds.size:
            self._seconds.cut(0)
        new = source.values[self._seconds.size :]
        if source.key == STEP_TIME:
            so_far = float(self._seconds.view()[-1]) if self._seconds.size else 0.0
            taken = np.where(np.isfinite(new) & (new > 0) & (new < 1e12), new, 0.0)
            self._seconds.append(so_far + np.cumsum(taken) / 1000)
        else:
            if not self._seconds.size:
                finite = new[np.isfinite(new)][:1]
                self._origin = float(finite[0]) if len(finite) else 0.0
            self._seconds.append(new - self._origin)
        self._source = source
        return Series(TIME, source.steps, self._seconds.view())


class Trained:
    """The seconds of training until each step, without the gaps in which nobody trained.

    A gap holds one of the halts; where none is known, it is one that is far too long for a step. It
    counts as an ordinary step: the median of the steps so far, judged anew whenever there are twice
    as many.
    """

    def __init__(self) -> None:
        self._clock: Series | None = None
        self._halts: tuple[float, ...] = ()
        self._seconds = Growing()
        self._usual = 0.0
        self._judged = 0  # steps by which `_usual` was found

    def update(self, clock: Series, halts: Sequence[float]) -> Series:
        """In O(new) while `clock` only grows and halts come at its end, amortized."""
        known, halts = self._seconds.size, tuple(halts)
        if known and not self._goes_on(clock, halts):
            known = 0
        if not known:
            self._seconds.cut(0)
            self._usual, self._judged = _usual(clock.values), len(clock)
            self._seconds.append(np.zeros(min(1, len(clock))))
        so_far = float(self._seconds.view()[-1]) if self._seconds.size else 0.0
        moments = clock.values[max(0, self._seconds.size - 1) :]
        with np.errstate(over="ignore"):
            passed = so_far + np.cumsum(self._taken(moments, halts))
        self._seconds.append(np.minimum(passed, np.finfo(np.float64).max))
        self._clock, self._halts = clock, halts
        return Series(TIME, clock.steps, self._seconds.view())

    def _goes_on(self, clock: Series, halts: tuple[float, ...]) -> bool:
        """Whether what is known of the first steps still holds."""
        old, known = self._clock, self._seconds.size
        if old is None or len(clock) >= 2 * self._judged:
            return False
        if unchanged(old.values, clock.values) < known:
            return False
        if halts == self._halts:
            return True
        seen = len(self._halts)
        latest = float(np.nanmax(old.values[:known], initial=-np.inf))
        return bool(seen) and halts[:seen] == self._halts and min(halts[seen:]) > latest

    def _taken(self, moments: Floats, halts: tuple[float, ...]) -> Floats:
        """The seconds of each step after the first of `moments`."""
        taken = _steps(moments)
        if halts:
            passed = np.searchsorted(np.sort(np.asarray(halts)), moments, "right")
            gaps = np.diff(passed) > 0
        else:
            gaps = taken > max(_PAUSE, _TIMES * self._usual)
        return np.where(gaps, np.minimum(taken, self._usual), taken)


def _steps(moments: Floats) -> Floats:
    with np.errstate(invalid="ignore", over="ignore"):
        taken = np.diff(moments)
    return np.where(np.isfinite(taken) & (taken > 0), taken, 0.0)


def _usual(moments: Floats) -> float:
    taken = _steps(moments)
    positive = taken[taken > 0]
    with np.errstate(over="ignore"):
        return float(np.median(positive)) if len(positive) else 0.0
