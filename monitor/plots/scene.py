"""What the charts of the selected runs show: which charts, which part of x, which curves."""

from __future__ import annotations

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
from monitor.plots.curves import CurveStore
from monitor.plots.metric_list import MetricList, metric_list
from monitor.plots.names import distinct
from monitor.plots.shown import Shown
from monitor.plots.timeline import Timeline
from shared.charts.colours import CURVE_INKS
from shared.charts.figure import Curve, Figure, RawPoints
from shared.charts.labels import number
from shared.charts.window import TIMES, WHOLE, Kind, Window
from shared.text import one_line

#: The colours of overlaid runs, by their names in the theme.
RUN_INKS = CURVE_INKS
#: They tell curves apart on screens without colours.
LETTERS = "ABCDEFGH"
MAX_RUNS = len(RUN_INKS)

_LABEL = 48  # characters of a key or a name
_BESIDE = ("val", "curve-3")  # the colours of what is drawn beside the main metric
_STAGE_NAMES = {"val_loss": "val", "eval_loss": "eval"}  # in the chart of the loss
_MUTED = Ink("muted")
_BEST = "★ "  # before the name of a run whose setting is the best of its group


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
        named = [_BEST * view.is_best + view.label for view, _ in runs[:MAX_RUNS]]
        labels = distinct(named, _LABEL)
        self.shown = [
            Shown(view, detail, store.of(detail), ink, label)
            for (view, detail), ink, label in zip(runs, RUN_INKS, labels, strict=False)
        ]
        self.metrics = self._metrics(state)
        self.keys = self.metrics.keys
        # The runs may lack the axis that was chosen for others.
        has = any(s.curves.axes.has(state.axis, state.x_metric) for s in self.shown)
        self.state = state if has or state.axis == "step" else state.on_axis("step")
        self.axis: Kind = self.state.axis
        self.limits = self._limits()
        #: What happened, and where.
        self.timeline = Timeline(self.shown, self.axis, self.state.x_metric)

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
    def unmatched(self) -> str:
        """A sentence where no metric matches the filter."""
        if self.keys or not self.metrics.total:
            return ""
        return f"No metric matches {one_line(self.state.query, 60)}; Esc clears the filter."

    @property
    def window(self) -> Window:
        """The visible part of the axis."""
        return self.state.window(self.limits or (0.0, 0.0))

    def _metrics(self, state: ChartState) -> MetricList:
        """A chart per metric of any run; with one run, that of `loss` shows `val_loss` too."""
        found: dict[str, None] = {}
        for shown in self.shown:
            found.update(dict.fromkeys(shown.curves.series))
        return metric_list(
            list(found),
            chosen=state.main,
            query=state.query,
            folded=state.folded,
            together=not self.is_overlay,
        )

    @property
    def axes(self) -> tuple[Kind, ...]:
        """The x axes that differ from each other for these runs."""
        metric = self.state.x_metric
        return tuple(
            kind
            for kind in AXES
            if any(s.curves.axes.is_worthwhile(kind, metric) for s in self.shown)
        )

    def _limits(self) -> Limits | None:
        found = [r for s in self.shown if (r := self._range(s)) is not None]
        if not found:
            return None
        return min(low for low, _ in found), max(high for _, high in found)

    def _range(self, shown: Shown) -> Limits | None:
        return shown.curves.axes.range(self.axis, self.state.x_metric)

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
            bands=self.timeline.bands(),
            marks=self.timeline.marks(),
        )

    def curves(self, key: str) -> list[Curve]:
        """The curves of the chart of `key`, in the order of drawing, named for the screen."""
        return self._for_screen(self._curves(key))

    def _for_screen(self, found: Sequence[Curve]) -> list[Curve]:
        """The curves with short names, and with letters where there are no colours."""
        dim = [curve for curve in found if curve.abandoned]
        found = [curve for curve in found if not curve.abandoned]
        if not self.is_overlay:
            found = [
                dataclasses.replace(c, label=_STAGE_NAMES.get(c.label, c.label)) for c in found
            ]
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
            for place, one in enumerate(self._drawn_for(key)):
                if one in shown.curves.series:
                    found += self._curve(shown, one, place)
        return found

    def _drawn_for(self, key: str) -> tuple[str, ...]:
        """The metrics in the chart of `key`."""
        return (key, *self.metrics.beside.get(key, ()))

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

    def _curve(self, shown: Shown, key: str, place: int) -> list[Curve]:
        if self.is_overlay:
            label, ink = shown.label, shown.ink
        else:
            ink = _BESIDE[place - 1] if place else "val" if key == "val_loss" else "train"
            label = one_line(key, _LABEL)
        state = self.state
        curve = shown.curves.curve(
            key,
            label,
            ink,
            kind=state.axis,
            metric=state.x_metric,
            weight=state.weight,
            spread=not self.is_overlay,  # the bands of several runs would hide each other
        )
        return [] if curve is None else [curve]

    def _abandoned(self, key: str) -> list[Curve]:
        """What an attempt that was given up made beyond the newest step: dim, a line of its own."""
        if self.axis != "step":
            return []
        return [
            Curve("abandoned", "muted", RawPoints(shown.detail.abandoned[one]), abandoned=True)
            for shown in self.shown
            for one in self._drawn_for(key)
            if one in shown.detail.abandoned
        ]

    def _remarks(self, key: str, curves: Sequence[Curve]) -> list[Piece]:
        found: list[Piece] = []
        if self.state.weight and any(curve.smooth is not None for curve in curves):
            found.append((f" ema {self.state.weight:g} ", _MUTED))
        if key in self.state.log_y:
            found.append((" log y ", _MUTED))
        if self.axis != "step":
            window = self.window
            log = " (log)" if window.log else ""
            found.append((f" over {one_line(window.name, _LABEL)}{log} ", _MUTED))
        if not self.is_overlay and self.shown:
            view = self.shown[0].view
            best = view.best_metric or "loss"
            if view.best_loss is not None and best in self._drawn_for(key):
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
        if self.axis in TIMES and any(s.curves.axes.moved("time") for s in self.shown):
            parts.append("the clock ran backwards")
        if self.is_overlay:
            metric = self.state.x_metric
            missing = sum(not s.curves.axes.has(self.axis, metric) for s in self.shown)
            if missing:
                parts.append(f"{missing} without {one_line(self.window.name, _LABEL)}")
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
        limits = self._range(of)
        return math.inf if limits is None else limits[1]

    @overload
    def _exact(self, x: float) -> float: ...

    @overload
    def _exact(self, x: None) -> None: ...

    def _exact(self, x: float | None) -> float | None:
        """A step as an int: to search a float, numpy would convert every step."""
        return int(x) if x is not None and self.axis in WHOLE else x

    def next_axis(self) -> ChartState:
        """The state with the next available x axis; zoom and crosshair are converted."""
        axes = self.axes
        index = axes.index(self.axis) + 1 if self.axis in axes else 0
        return self.on_axis(axes[index % len(axes)]) if axes else self.state

    def on_axis(self, kind: Kind, metric: str = "") -> ChartState:
        """The state over that axis; zoom and crosshair are converted where that is possible."""
        state = self.state
        if not self.shown:
            return state.on_axis(kind, metric)
        axes, x_metric = self.shown[0].curves.axes, metric or state.x_metric
        if not (self.timeline.rises and axes.rises(kind, x_metric)):
            return state.on_axis(kind, metric)

        def convert(x: Sequence[float], old: Kind, new: Kind) -> list[float]:
            return axes.convert(x, old, new, x_metric)

        return state.on_axis(kind, metric, convert, self.window)

    def signature(self, key: str) -> object:
        """A value that changes when the chart of `key` would look different."""
        runs = tuple(
            (s.view.run_id, s.view.label, s.view.transitions, s.detail.version,
             s.detail.approximate, s.detail.loading, s.detail.events[-1:], len(s.detail.events),
             s.detail.checkpoints, s.view.best_loss, s.view.best_step)
            for s in self.shown
        )  # fmt: skip
        state = dataclasses.replace(self.state.at_main(), size="")
        return key, state, self._drawn_for(key), runs, self.plain, self.ascii
