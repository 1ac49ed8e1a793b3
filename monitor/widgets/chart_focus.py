"""One chart as large as the room allows, and under it what it says in numbers."""

from __future__ import annotations

from textual import events
from textual.strip import Strip

from monitor.chart.picture import Ink, Picture, Piece, cell_count, clip
from monitor.plots.paint import Drawn, paint, paint_nothing
from monitor.plots.scene import Reading, Scene
from monitor.widgets.chart_pane import ChartMoved, ChartPane
from shared.charts.labels import number
from shared.charts.window import Window

__all__ = ["ChartFocus", "ChartMoved"]

_MUTED, _TEXT, _STRONG = Ink("muted"), Ink("foreground"), Ink("foreground", "bold")
#: A chart shorter than this takes the rows under it as well.
_LEAST_CHART = 10


class ChartFocus(ChartPane):
    """The chart under the cursor of the grid."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._drawn: Drawn | None = None
        self._key = ""

    def chart_at(self, x: int, y: int) -> tuple[str, int, int, Drawn] | None:
        """The chart, if the cell is on it."""
        if self._drawn is None or not 0 <= y < self._drawn.picture.height:
            return None
        return self._key, x, y, self._drawn

    def drawn(self, key: str) -> Drawn | None:
        """The chart as it was last drawn."""
        return self._drawn if key == self._key else None

    def next_chart(self, charts: int) -> None:
        """Go to another metric; after the last one comes the first."""
        keys = self.scene.keys
        if keys:
            index = (keys.index(self.scene.key) + charts) % len(keys)
            self.change(self.scene.state.at_chart(keys[index]))

    # -- drawing -------------------------------------------------------------------------

    def draw(self, width: int, height: int) -> list[Strip]:
        """The chart; the curves in numbers; the other metrics; marks; the whole range."""
        scene = self.scene
        self._key = scene.key
        if not scene.keys or not width:
            self._drawn = None
            text = "No metrics yet: the curve begins with the first step." if self._runs else ""
            text = next((d.why_empty for _, d in self._runs if d.why_empty), text)
            text = scene.unmatched or text
            return self.strips(paint_nothing(text, " chart", width, height))
        table, more = self._rows_below(scene, width, height)
        rows = [*table, *more]
        # What the table names, the heading need not.
        named, canvas = not table, height - len(rows)
        self._drawn = paint(scene, scene.key, width, canvas, named=named, phases=True)
        below = Picture(width, len(rows))
        for y, pieces in enumerate(rows):
            below.write_all(y, 0, pieces)
        if scene.ascii:
            below.to_ascii()
        return [*self.strips(self._drawn.picture), *self.strips(below)]

    def _rows_below(
        self, scene: Scene, width: int, height: int
    ) -> tuple[list[list[Piece]], list[list[Piece]]]:
        """What is said under the chart, the most wanted first to have its room."""
        room = max(0, height - _LEAST_CHART)
        table: list[list[Piece]] = []
        more: list[list[Piece]] = []
        if scene.state.is_zoomed and room:
            more.append(_rail(scene, width))
        if room > len(more):
            more.insert(0, _what_happened(scene, width))
        if scene.is_overlay and room - len(more) >= len(scene.shown):
            table = _table(scene.readings(scene.key), width)
        elif not scene.is_overlay and room > len(more) and len(scene.keys) > 1:
            more.insert(0, _others(scene, width))
        return table, more

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A click on the rail under the chart goes there."""
        scene = self.scene
        if (
            self._drawn is not None
            and scene.state.is_zoomed
            and scene.limits is not None
            and event.y == self.size.height - 1 >= self._drawn.picture.height
        ):
            event.stop()
            low, high = scene.limits
            window, x = scene.window, low + (event.x + 0.5) / self.size.width * (high - low)
            span = max(window.last - window.first, 1e-12)
            self.pan((x - (window.first + window.last) / 2) / span)
            return
        super().on_mouse_down(event)


def _table(readings: list[Reading], width: int) -> list[list[Piece]]:
    """Every curve in numbers: its value at the crosshair, its least and greatest."""
    names = [clip(r.label, max(8, width - 44)) for r in readings]
    room = max(cell_count(name) for name in names)
    rows = []
    for reading, name in zip(readings, names, strict=True):
        values = [
            number(v).rjust(9) if v is not None else "-".rjust(9)
            for v in (reading.value, reading.low, reading.high)
        ]
        sign = f" {reading.letter} " if reading.letter else " ━ "
        rows.append(
            [
                (sign, Ink(reading.ink, "bold")),
                (name + " " * (room - cell_count(name)), _TEXT),
                (values[0], _STRONG),
                ("  min", _MUTED),
                (values[1], _TEXT),
                ("  max", _MUTED),
                (values[2], _TEXT),
            ]
        )
    return rows


def _others(scene: Scene, width: int) -> list[Piece]:
    """The other metrics at the crosshair, as many as there is room for."""
    pieces: list[Piece] = []
    used = 0
    for key in scene.keys:
        if key == scene.key:
            continue
        for reading in scene.readings(key):
            value = "-" if reading.value is None else number(reading.value)
            more = [(f" {reading.label} ", _MUTED), (f"{value} ", _TEXT)]
            used += sum(cell_count(text) for text, _ in more)
            if used > width:
                return pieces
            pieces += more
    return pieces


def _what_happened(scene: Scene, width: int) -> list[Piece]:
    """What happened under the crosshair; without one, what the marks in the window mean."""
    window = scene.window
    crosshair = scene.state.crosshair
    if crosshair is not None:
        near = (window.last - window.first) / max(1, width)
        found = scene.timeline.happening_at(crosshair - near, crosshair + near)
        if found is not None:
            sign = found.sign.ascii if scene.ascii else found.sign.sign
            text = f"{found.sign.word} at step {found.step:,}"
            if scene.is_overlay:
                text = f"{scene.shown[0].view.label} {text}"
            said = f": {found.text}" if found.text else ""
            return [
                (f" {sign} ", Ink(found.sign.ink, "bold")),
                (clip(text + said, width - 4), _TEXT),
            ]
    pieces: list[Piece] = []
    used = 0
    for known in scene.timeline.signs(window):
        shown = known.ascii if scene.ascii else known.sign
        used += len(known.word) + 4
        if used <= width:
            pieces += [(f" {shown} ", Ink(known.ink, "bold")), (f"{known.word} ", _MUTED)]
    return pieces


def _rail(scene: Scene, width: int) -> list[Piece]:
    """Where the window lies in all there is, as a bar of the whole width, and what it shows."""
    low, high = scene.limits or (0.0, 1.0)
    window = scene.window
    size = max(high - low, 1e-300)
    first = min(width - 1, int((window.first - low) / size * width))
    last = min(width, max(first + 1, round((window.last - low) / size * width)))
    parts = [(first, "─", Ink("faint")), (last - first, "━", Ink("primary", "bold"))]
    parts.append((width - last, "─", Ink("faint")))
    text = f" {_range_text(window)} "
    room = max(parts, key=lambda part: part[0])  # the longest part has the words
    pieces: list[Piece] = []
    for part in parts:
        size_of, sign, ink = part
        if part is not room or len(text) > size_of - 2:
            pieces.append((sign * size_of, ink))
            continue
        left = (size_of - len(text)) // 2
        pieces += [(sign * left, ink), (text, _TEXT), (sign * (size_of - len(text) - left), ink)]
    return pieces


def _range_text(window: Window) -> str:
    if window.is_whole:
        return f"steps {window.first:,.0f} to {window.last:,.0f}"
    unit = " tokens" if window.kind == "tokens" else ""
    return f"{window.label(window.first)} to {window.label(window.last)}{unit}"
