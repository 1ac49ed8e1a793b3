"""What the charts of the selected runs show: which charts, which part of x, which curves."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from monitor.chart.frame import Plot
from monitor.chart.picture import Ink, Piece
from monitor.chart_state import AXES, ChartState, Limits
from monitor.data.views import RunDetail, RunView
from monitor.plots.curves import CurveStore, RunCurves
from monitor.plots.marks import happenings
from monitor.plots.names import distinct
from shared.charts.colours import CURVE_INKS
from shared.charts.figure import Curve, Figure, RawPoints
from shared.charts.labels import number
from shared.charts.marks import Happening, Mark, Sign, in_drawing_order, mark
from shared.charts.phases import Band, Phase, phases
from shared.charts.smoothing import is_long_enough
from shared.charts.window import Kind, Window
from shared.text import one_line

#: The colours of overlaid runs, by their names in the theme.
RUN_INKS = CURVE_INKS
#: They tell curves apart on screens without colours.
LETTERS = "ABCDEFGH"
MAX_RUNS = len(RUN_INKS)

_LABEL = 48  # characters of a key or a name
_MUTED = Ink("muted")


@dataclass(frozen=True, eq=False)
class Shown:
    """One of the runs on the charts."""

    view: RunView
    detail: RunDetail
    curves: RunCurves
    ink: str
    label: str


@dataclass(frozen=True)
class Reading:
    """One curve in numbers: its value at the crosshair, else its newest; its least and greatest
    finite value in the window. None if there is none.
    """

    label: str
    ink: str
    letter: str
    value: float | None
    low: float | None
    high: float | None


class Scene:
    """The charts of `runs` as `state` describes them; marks and phases are those of the first run.

    `plain` is for screens without colours: letters tell the curves apart. `ascii` is for screens
    without braille.
    """

    def __init__(
        self,
        runs: Sequence[tuple[RunView, RunDetail]],
        state: ChartState,
        store: CurveStore,
        *,
        plain: bool = False,
        ascii: bool = False,
    ) -> None:
        self.plain, self.ascii = plain, ascii
        labels = distinct([view.label for view, _ in runs[:MAX_RUNS]], _LABEL)
        self.shown = [
            Shown(view, detail, store.of(detail), ink, label)
            for (view, detail), ink, label in zip(runs, RUN_INKS, labels, strict=False)
        ]
        self.keys = self._keys()
        self.axes = tuple(a for a in AXES if any(s.curves.has_axis(a) for s in self.shown))
        # The runs may lack the axis that was chosen for others.
        self.axis: Kind = state.axis if state.axis in self.axes else "step"
        self.state = state if state.axis == self.axis else state.next_axis(("step",))
        self.limits = self._limits()
        self._happenings: list[Happening] | None = None
        self._places: dict[int, float] = {}

    @property
    def is_overlay(self) -> bool:
        """Whether several runs are compared."""
        return len(self.shown) > 1

    @property
    def key(self) -> str:
        """The chart under the cursor; "" while there is none."""
        if self.state.cursor in self.keys:
            return self.state.cursor
        return self.keys[0] if self.keys else ""

    @property
    def window(self) -> Window:
        """The visible part of the axis."""
        return self.state.window(self.limits or (0.0, 0.0))

    def _keys(self) -> list[str]:
        """A chart per metric of any run; with one run, that of `loss` shows `val_loss` too."""
        found: dict[str, None] = {}
        for shown in self.shown:
            found.update(dict.fromkeys(shown.curves.series))
        first = [key for key in ("loss", "val_loss") if key in found]
        if len(first) == 2 and not self.is_overlay:
            del found[first.pop()]
        return list(dict.fromkeys([*first, *found]))

    def _limits(self) -> Limits | None:
        found = [r for s in self.shown if (r := s.curves.range(self.axis)) is not None]
        if not found:
            return None
        return min(low for low, _ in found), max(high for _, high in found)

    # -- one chart -----------------------------------------------------------------------

    def plot(self, key: str, *, named: bool = True) -> Plot:
        """The chart of one metric for the terminal, with the names of the runs if `named`."""
        figure = self.figure(key)
        curves = self._for_screen(figure.curves)
        if self.is_overlay and not named:
            curves = [dataclasses.replace(c, label=c.label[: self.plain]) for c in curves]
        return Plot(
            dataclasses.replace(figure, curves=curves),
            title=one_line(key, _LABEL) if self.is_overlay else "",
            crosshair=self._exact(self.state.crosshair),
            remarks=self._remarks(key, curves),
            note=self._note(),
            ascii=self.ascii,
        )

    def figure(self, key: str) -> Figure:
        """The chart of one metric as any renderer draws it."""
        curves = self._curves(key)
        curves += self._abandoned(key)
        title = self.shown[0].view.label if self.shown and not self.is_overlay else key
        return Figure(
            curves,
            self.window,
            title=one_line(title, _LABEL),
            y_name=one_line(key, _LABEL),
            log_y=key in self.state.log_y,
            smoothing=self.state.weight if any(c.smooth is not None for c in curves) else 0.0,
            bands=self._bands(),
            marks=self._marks(),
        )

    def curves(self, key: str) -> list[Curve]:
        """The curves of the chart of `key`, in the order of drawing, named for the screen."""
        return self._for_screen(self._curves(key))

    def _for_screen(self, found: Sequence[Curve]) -> list[Curve]:
        """The curves with short names, and with letters where there are no colours."""
        dim = [curve for curve in found if curve.abandoned]
        found = [curve for curve in found if not curve.abandoned]
        if not self.is_overlay:
            found = [dataclasses.replace(c, label="val") if c.ink == "val" else c for c in found]
        if self.plain and len(found) > 1:
            letters = self._letters(found)
            found = [
                dataclasses.replace(c, label=f"{letter} {c.label}")
                for letter, c in zip(letters, found, strict=True)
            ]
        return [*found, *dim]

    def _curves(self, key: str) -> list[Curve]:
        found: list[Curve] = []
        for shown in self.shown:
            keys = [key]
            if key == "loss" and not self.is_overlay:
                keys.append("val_loss")
            for one in keys:
                if one in shown.curves.series:
                    found += self._curve(shown, one)
        return found

    def _letters(self, curves: Sequence[Curve]) -> list[str]:
        """A letter per curve; a run has the same one on every chart."""
        if not self.is_overlay:
            return list(LETTERS[: len(curves)])
        return [LETTERS[RUN_INKS.index(curve.ink)] for curve in curves]

    def legend(self) -> list[Piece]:
        """The names of overlaid runs in the colours of their curves."""
        pieces: list[Piece] = []
        for i, shown in enumerate(self.shown):
            sign = f" {LETTERS[i]} " if self.plain else " ━ "
            pieces.append((sign, Ink(shown.ink, "bold")))
            pieces.append((f"{shown.label} ", Ink("foreground")))
        return pieces

    def _curve(self, shown: Shown, key: str) -> list[Curve]:
        places = shown.curves.places(key, self.axis)
        if places is None:
            return []
        pyramid = shown.curves.pyramid(key)
        smooth = None
        weight = self.state.weight
        if is_long_enough(len(pyramid), weight):
            smooth = shown.curves.average(key, weight)
        if self.is_overlay:
            label, ink = shown.label, shown.ink
        else:
            label, ink = one_line(key, _LABEL), "val" if key == "val_loss" else "train"
        x = None if self.axis == "step" else places
        return [Curve(label, ink, pyramid, x, smooth)]

    def _abandoned(self, key: str) -> list[Curve]:
        """What an attempt that was given up made beyond the newest step: dim, a line of its own."""
        if self.axis != "step":
            return []
        keys = [key, "val_loss"] if key == "loss" and not self.is_overlay else [key]
        return [
            Curve("abandoned", "muted", RawPoints(shown.detail.abandoned[one]), abandoned=True)
            for shown in self.shown
            for one in keys
            if one in shown.detail.abandoned
        ]

    def _bands(self) -> list[Band]:
        return [Band(x, phase.ink, phase.name) for x, phase in self.phases()]

    def phases(self) -> list[tuple[float, Phase]]:
        """The phases, each with the x at which it begins. Empty if those of the runs differ."""
        if not self.shown:
            return []
        found = phases(self.shown[0].view.transitions)
        if any(phases(other.view.transitions) != found for other in self.shown[1:]):
            return []
        return [(x, p) for p in found if (x := self.x_of(p.start)) is not None]

    def happenings(self) -> list[Happening]:
        """The events of the first run, by step."""
        if self._happenings is None:
            self._happenings = happenings(self.shown[0].detail) if self.shown else []
        return self._happenings

    def _marks(self) -> list[Mark]:
        marks: list[Mark] = []
        for one in in_drawing_order(self.happenings()):
            x = self.x_of(one.step)
            if x is not None:
                marks.append(mark(x, one))
        return marks

    def x_of(self, step: int) -> float | None:
        """The x of a step of the first run; None if it has no such axis."""
        if self.axis == "step":
            return float(step)
        if not self.shown[0].curves.has_axis(self.axis):
            return None
        if step not in self._places:
            self._places[step] = self.shown[0].curves.convert([step], "step", self.axis)[0]
        return self._places[step]

    def _remarks(self, key: str, curves: Sequence[Curve]) -> list[Piece]:
        found: list[Piece] = []
        if any(curve.smooth is not None for curve in curves):
            found.append((f" ema {self.state.weight:g} ", _MUTED))
        if key in self.state.log_y:
            found.append((" log y ", _MUTED))
        if not self.is_overlay and self.shown:
            view = self.shown[0].view
            if view.best_loss is not None and key == (view.best_metric or "loss").replace(
                "val_loss", "loss"
            ):
                at = "" if view.best_step is None else f" @ {view.best_step:,}"
                found += [(" best ", _MUTED), (number(view.best_loss), Ink("foreground"))]
                found.append((f"{at} ", _MUTED))
        return found

    def _note(self) -> str:
        loading = [s.detail.loading for s in self.shown if s.detail.loading is not None]
        parts = []
        if any(s.detail.approximate for s in self.shown):
            parts.append("~ approximate" if self.ascii else "≈ approximate")
        if loading:
            parts.append(f"reading {min(loading):.0%}")
        if self.axis == "time" and any(s.curves.moved("time") for s in self.shown):
            parts.append("the clock ran backwards")
        if self.is_overlay:
            missing = sum(not s.curves.has_axis(self.axis) for s in self.shown)
            if missing:
                parts.append(f"{missing} without {self.axis}")
        return ", ".join(parts)

    # -- in numbers ----------------------------------------------------------------------

    def readings(self, key: str) -> list[Reading]:
        """The curves of one chart in numbers."""
        window, found = self.window, []
        curves = self.curves(key)
        for curve in curves:
            places = curve.places
            begin = int(np.searchsorted(places, self._exact(window.first)))
            end = int(np.searchsorted(places, self._exact(window.last), "right"))
            low = high = None
            if end > begin:
                whole = curve.points.between(np.array([begin, end]))
                if math.isfinite(float(whole.low[0])):
                    low, high = float(whole.low[0]), float(whole.high[0])
            lettered = self.plain and len(curves) > 1
            letter, label = (curve.label[0], curve.label[2:]) if lettered else ("", curve.label)
            found.append(Reading(label, curve.ink, letter, self._value(curve), low, high))
        return found

    def _value(self, curve: Curve) -> float | None:
        at = len(curve.points) - 1
        crosshair = self._exact(self.state.crosshair)
        if crosshair is not None:
            at = int(np.searchsorted(curve.places, crosshair, "right")) - 1
            if crosshair > self._end(curve):
                return None  # the run ended before it
        if at < 0:
            return None
        values = curve.points.series.values if curve.smooth is None else curve.smooth
        return float(values[at])

    def _end(self, curve: Curve) -> float:
        """The last x of the run of a curve; its other series may be longer."""
        of = next((s for s in self.shown if s.ink == curve.ink), self.shown[0])
        limits = of.curves.range(self.axis)
        return math.inf if limits is None else limits[1]

    @overload
    def _exact(self, x: float) -> float: ...

    @overload
    def _exact(self, x: None) -> None: ...

    def _exact(self, x: float | None) -> float | None:
        """A step as an int: to search a float, numpy would convert every step."""
        return int(x) if x is not None and self.axis == "step" else x

    def happening_at(self, first: float, last: float) -> Happening | None:
        """The most important event in first <= x < last, such as a column of a chart."""
        found = [
            h
            for h in self.happenings()
            if (x := self.x_of(h.step)) is not None and first <= x < last
        ]
        return in_drawing_order(found)[-1] if found else None

    def signs(self) -> list[Sign]:
        """The signs in the window, each meaning once, the most important first."""
        window, found = self.window, {}
        for one in reversed(in_drawing_order(self.happenings())):
            x = self.x_of(one.step)
            if x is not None and window.first <= x <= window.last:
                found[one.sign.word] = one.sign
        return list(found.values())

    def next_happening(self, direction: int) -> float | None:
        """The x of the next event after (1) or before (-1) the crosshair."""
        places = sorted({x for h in self.happenings() if (x := self.x_of(h.step)) is not None})
        if not places:
            return None
        if self.state.crosshair is None:
            return places[-1] if direction < 0 else places[0]
        if direction > 0:
            at = bisect.bisect_right(places, self.state.crosshair)
            return places[at] if at < len(places) else None
        at = bisect.bisect_left(places, self.state.crosshair) - 1
        return places[at] if at >= 0 else None

    def next_axis(self) -> ChartState:
        """The state with the next available x axis; zoom and crosshair are converted."""
        if not self.shown:
            return self.state.next_axis()
        return self.state.next_axis(self.axes, self.shown[0].curves.convert, self.window)

    def signature(self, key: str) -> object:
        """A value that changes when the chart of `key` would look different."""
        runs = tuple(
            (s.view.run_id, s.view.label, s.view.transitions, s.detail.version,
             s.detail.approximate, s.detail.loading, s.detail.events[-1:], len(s.detail.events),
             s.detail.checkpoints, s.view.best_loss, s.view.best_step)
            for s in self.shown
        )  # fmt: skip
        state = self.state.at_chart("")
        return key, state, runs, self.plain, self.ascii
