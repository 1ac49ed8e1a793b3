"""What happened in the runs on the charts, and where on the x axis: phases and marks."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import cached_property

from monitor.plots.marks import happenings
from monitor.plots.shown import Shown
from shared.charts.marks import Happening, Mark, Sign, in_drawing_order, mark
from shared.charts.phases import Band, Phase, phases
from shared.charts.window import Kind, Window


class Timeline:
    """Phases and events of the first of the runs, over an axis of this kind."""

    def __init__(self, shown: Sequence[Shown], kind: Kind, metric: str) -> None:
        self._shown, self._kind, self._metric = shown, kind, metric
        self._places: dict[int, float] = {}

    @property
    def rises(self) -> bool:
        """Whether x rises with the steps, so that a phase is one stretch of it."""
        return all(s.curves.axes.rises(self._kind, self._metric) for s in self._shown)

    def x_of(self, step: int) -> float | None:
        """The x of a step of the first run; None if it has no such axis."""
        if self._kind == "step":
            return float(step)
        axes = self._shown[0].curves.axes
        if not axes.has(self._kind, self._metric):
            return None
        if step not in self._places:
            self._places[step] = axes.convert([step], "step", self._kind, self._metric)[0]
        return self._places[step]

    # -- phases --------------------------------------------------------------------------

    def phases(self) -> list[tuple[float, Phase]]:
        """The phases, each with the x at which it begins. Empty if those of the runs differ."""
        if not self._shown or not self.rises:
            return []
        found = phases(self._shown[0].view.transitions)
        if any(phases(other.view.transitions) != found for other in self._shown[1:]):
            return []
        return [(x, p) for p in found if (x := self.x_of(p.start)) is not None]

    def bands(self) -> list[Band]:
        """The phases as bands of a chart."""
        return [Band(x, phase.ink, phase.name) for x, phase in self.phases()]

    # -- events --------------------------------------------------------------------------

    @cached_property
    def happenings(self) -> list[Happening]:
        """The events of the first run, by step."""
        return happenings(self._shown[0].detail) if self._shown else []

    def marks(self) -> list[Mark]:
        """Their marks on the axis."""
        placed = ((self.x_of(one.step), one) for one in in_drawing_order(self.happenings))
        return [mark(x, one) for x, one in placed if x is not None]

    def happening_at(self, first: float, last: float) -> Happening | None:
        """The most important event in first <= x < last, such as a column of a chart."""
        found = [
            h for h in self.happenings if (x := self.x_of(h.step)) is not None and first <= x < last
        ]
        return in_drawing_order(found)[-1] if found else None

    def signs(self, window: Window) -> list[Sign]:
        """The signs in the window, each meaning once, the most important first."""
        found = {}
        for one in reversed(in_drawing_order(self.happenings)):
            x = self.x_of(one.step)
            if x is not None and window.first <= x <= window.last:
                found[one.sign.word] = one.sign
        return list(found.values())

    def next_happening(self, direction: int, crosshair: float | None) -> float | None:
        """The x of the next event after (1) or before (-1) the crosshair."""
        places = sorted({x for h in self.happenings if (x := self.x_of(h.step)) is not None})
        if not places:
            return None
        if crosshair is None:
            return places[-1] if direction < 0 else places[0]
        if direction > 0:
            at = bisect.bisect_right(places, crosshair)
            return places[at] if at < len(places) else None
        at = bisect.bisect_left(places, crosshair) - 1
        return places[at] if at >= 0 else None
