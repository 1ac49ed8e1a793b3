"""What the grid and the focused chart share: state, mouse, and a limited redraw rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.timer import Timer

from monitor.chart.picture import Picture
from monitor.chart_state import AXES, PAN, WHEEL, ZOOM, ChartState
from monitor.data.views import RunDetail, RunView
from monitor.plots.curves import CurveStore
from monitor.plots.paint import Drawn
from monitor.plots.scene import Scene
from monitor.widgets.canvas_strips import StripMaker
from monitor.widgets.panel import Panel

#: New data is drawn at once if the last drawing is older than so many seconds and than so many
#: times its own cost: an expensive page is drawn less often instead of keeping a core busy.
_PAUSE, _COSTS = 0.033, 16.0


class ChartMoved(Message):
    """The view of the charts has changed to `state`, which the app owns."""

    def __init__(self, state: ChartState) -> None:
        super().__init__()
        self.state = state


class ChartPane(Panel):
    """Shows charts of some runs; subclasses define their layout.

    A change made here is shown at once and posted as `ChartMoved`. Panes that show the same runs
    share a `store`; `ascii` is for terminals without braille.
    """

    def __init__(
        self, *, id: str | None = None, store: CurveStore | None = None, ascii: bool = False
    ) -> None:
        self._base: Style | None = None
        super().__init__(id=id)
        self.ascii = ascii
        self._store = store or CurveStore()
        self._runs: tuple[tuple[RunView, RunDetail], ...] = ()
        self.state = ChartState()
        self._scene: Scene | None = None
        self._maker: tuple[object, StripMaker] | None = None
        self._timer: Timer | None = None
        self._queued = False
        self._drawn_at, self._cost = 0.0, 0.0
        self._hovering = False  # the crosshair is where the mouse is
        self._grip: tuple[int, str, ChartState] | None = None  # where a drag began
        self._dragged = False
        self._hidden = False

    @property
    def base(self) -> Style:
        """The pane's own background and foreground, cached because computing it is slow."""
        if self._base is None:
            self._base = self.rich_style
        return self._base

    def notify_style_update(self) -> None:
        """The theme or the style changed."""
        self._base = None
        super().notify_style_update()

    def show(self, details: Sequence[tuple[RunView, RunDetail]], state: ChartState) -> None:
        """Show these runs in this state; the first one provides marks and phases."""
        same = _same(self._runs, details)
        if same and state == self.state:
            return
        urgent = state != self.state or self._other_runs(details)
        self._runs, self.state, self._scene = tuple(details), state, None
        self._draw_soon(at_once=urgent)

    def _other_runs(self, details: Sequence[tuple[RunView, RunDetail]]) -> bool:
        return [v.run_id for v, _ in self._runs] != [v.run_id for v, _ in details]

    @property
    def scene(self) -> Scene:
        """What is shown, computed on first use."""
        if self._scene is None:
            self._scene = Scene(
                self._runs, self.state, self._store, plain=self._is_plain(), ascii=self.ascii
            )
        return self._scene

    def _is_plain(self) -> bool:
        colours = self.colours
        first, second = colours.style("curve-1"), colours.style("curve-2")
        return bool(self.app.no_color) or first.color == second.color

    # -- for subclasses ------------------------------------------------------------------

    def chart_at(self, x: int, y: int) -> tuple[str, int, int, Drawn] | None:
        """The chart under a cell: its key, the cell within it, and what was drawn."""
        raise NotImplementedError

    def drawn(self, key: str) -> Drawn | None:
        """What was last drawn of a chart that can be seen."""
        raise NotImplementedError

    def strips(self, picture: Picture) -> list[Strip]:
        """A picture in the colours of the theme."""
        seen = (self.app.theme, self.base)
        if self._maker is None or self._maker[0] != seen:
            colours = self.colours
            grounds = {"heading": self.heading_style(), "cursor": colours.ground("panel")}
            self._maker = (seen, StripMaker(colours, self.base, grounds))
        return self._maker[1].strips(picture)

    # -- drawing -------------------------------------------------------------------------

    def _draw_soon(self, *, at_once: bool) -> None:
        """Draw once the message queue is empty; new data may have to wait."""
        if self._hidden or not self.is_mounted:
            self._drawn_for = None
            return
        wait = self._drawn_at + max(_PAUSE, _COSTS * self._cost) - time.monotonic()
        if at_once or wait <= 0:
            if not self._queued:
                self._queued = True
                self.call_later(self._draw_now)
        elif self._timer is None and not self._queued:
            self._timer = self.set_timer(wait, self._draw_now)

    def _draw_now(self) -> None:
        self._queued = False
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._hidden:
            return
        began = time.monotonic()
        self.redraw()
        self._drawn_at = time.monotonic()
        self._cost = self._drawn_at - began

    def on_hide(self) -> None:
        """Stop drawing while hidden."""
        self._hidden = True

    def on_show(self) -> None:
        """Draw what arrived while hidden."""
        self._hidden = False
        self._drawn_for = None
        self.refresh()

    # -- acts ----------------------------------------------------------------------------

    def change(self, state: ChartState, *, hovering: bool = False) -> None:
        """Show the charts in this state and post it."""
        self._hovering = hovering
        if state == self.state:
            return
        self.state, self._scene = state, None
        self._draw_soon(at_once=True)
        self.post_message(ChartMoved(state))

    def perform(self, act: str) -> None:
        """Do one of `ACTS`."""
        ACTS[act](self)

    def zoom(self, factor: float) -> None:
        """Show `factor` times as much of the axis around the crosshair, else around the middle."""
        scene = self.scene
        if scene.limits is None:
            return
        window, at = scene.window, self.state.crosshair
        if at is None or not window.first <= at <= window.last:
            at = (window.first + window.last) / 2
            if self.state.is_following and self.state.is_zoomed:
                at = window.last  # it keeps following
        self.change(scene.state.zoomed(factor, at, scene.limits))

    def pan(self, share: float) -> None:
        """Move the window by this share of its width."""
        scene = self.scene
        if scene.limits is not None:
            self.change(scene.state.panned(share, scene.limits))

    def reset(self) -> None:
        """Show everything."""
        self.change(self.state.reset())

    def next_axis(self) -> None:
        """Show the next x axis these runs have."""
        self.change(self.scene.next_axis())

    def set_axis(self, kind: str, metric: str) -> None:
        """Show the axis of this kind: one of `AXES`, with "metric" over that metric."""
        known = next(axis for axis in AXES if axis == kind)
        self.change(self.scene.on_axis(known, metric))

    def toggle_log_x(self) -> None:
        """Change the x scale."""
        self.change(self.state.toggled_log_x())

    def toggle_log_y(self) -> None:
        """Change the value scale of the chart under the cursor."""
        if self.scene.key:
            self.change(self.state.toggled_log_y(self.scene.key))

    def smoother(self) -> None:
        """Smooth more."""
        self.change(self.state.smoother())

    def rougher(self) -> None:
        """Smooth less."""
        self.change(self.state.rougher())

    def move_crosshair(self, columns: int) -> None:
        """Move the crosshair by columns of the chart under the cursor."""
        scene, drawn = self.scene, self.drawn(self.scene.key)
        if scene.limits is None:
            return
        width = drawn.layout.columns if drawn else self.size.width
        self.change(scene.state.pointed_on(columns, scene.limits, width))

    def to_happening(self, direction: int) -> None:
        """Move the crosshair to the next (1) or the previous (-1) mark on the axis."""
        scene = self.scene
        x = scene.timeline.next_happening(direction, scene.state.crosshair)
        if x is None or scene.limits is None:
            return
        state, window = scene.state.pointed(x), scene.window
        if not window.first <= x <= window.last:
            width = max(window.last - window.first, 1e-12)
            state = state.panned((x - (window.first + window.last) / 2) / width, scene.limits)
        self.change(state)

    # -- mouse ---------------------------------------------------------------------------

    def _x_under(self, event: events.MouseEvent) -> float | None:
        found = self.chart_at(event.x, event.y)
        if found is None:
            return None
        _, x, _, drawn = found
        return drawn.layout.x_of(x, drawn.plot.figure.window)

    def _wheel(self, event: events.MouseEvent, factor: float) -> None:
        event.stop()
        event.prevent_default()
        scene = self.scene
        if scene.limits is None:
            return
        if event.shift or event.ctrl:
            self.pan(PAN if factor > 1 else -PAN)
            return
        at = self._x_under(event)
        if at is not None:
            self.change(scene.state.zoomed(factor, at, scene.limits), hovering=self._hovering)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Zoom in at the pointer; with shift, pan back."""
        self._wheel(event, WHEEL)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Zoom out at the pointer; with shift, pan forward."""
        self._wheel(event, 1 / WHEEL)

    def on_mouse_scroll_left(self, event: events.MouseScrollLeft) -> None:
        """Pan back."""
        event.stop()
        self.pan(-PAN / 2)

    def on_mouse_scroll_right(self, event: events.MouseScrollRight) -> None:
        """Pan forward."""
        event.stop()
        self.pan(PAN / 2)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Begin to drag a chart."""
        found = self.chart_at(event.x, event.y)
        if found is None or event.button != 1:
            return
        event.stop()
        self._grip, self._dragged = (event.x, found[0], self.scene.state), False
        self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Drag the window, or let the crosshair follow the pointer."""
        scene = self.scene
        if scene.limits is None:
            return
        if self._grip is not None:
            start, key, state = self._grip
            drawn = self.drawn(key)
            if event.x != start:
                self._dragged = True
            if drawn is not None and self._dragged:
                share = (start - event.x) / max(1, drawn.layout.columns)
                self.change(state.panned(share, scene.limits))
            return
        if self.state.crosshair is None or self._hovering:
            x = self._x_under(event)
            self.change(scene.state.pointed(x), hovering=True)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """End the drag."""
        if self._grip is not None:
            self._grip = None
            self.release_mouse()
            event.stop()

    def on_leave(self, event: events.Leave) -> None:
        """Remove a crosshair that followed the pointer."""
        if self._hovering and self._grip is None:
            self.change(self.scene.state.pointed(None))

    def on_click(self, event: events.Click) -> None:
        """A click pins the crosshair, a double click resets the zoom."""
        found = self.chart_at(event.x, event.y)
        if found is None or self._dragged:
            self._dragged = False
            return
        event.stop()
        key, x, y, drawn = found
        if event.chain >= 2:
            self.double_clicked(key, y)
            return
        state = self.scene.state.at_chart(key)
        at = drawn.layout.x_of(x, drawn.plot.figure.window)
        if at is not None and y >= drawn.layout.top:
            state = state.pointed(at)
        self.change(state)

    def double_clicked(self, key: str, y: int) -> None:
        """`y` is the row within the chart."""
        self.reset()


#: What the keys of charts do, by name.
ACTS: dict[str, Callable[[ChartPane], None]] = {
    "zoom_in": lambda pane: pane.zoom(ZOOM),
    "zoom_out": lambda pane: pane.zoom(1 / ZOOM),
    "pan_left": lambda pane: pane.pan(-PAN),
    "pan_right": lambda pane: pane.pan(PAN),
    "reset": ChartPane.reset,
    "next_axis": ChartPane.next_axis,
    "log_x": ChartPane.toggle_log_x,
    "log_y": ChartPane.toggle_log_y,
    "smoother": ChartPane.smoother,
    "rougher": ChartPane.rougher,
    "crosshair_left": lambda pane: pane.move_crosshair(-1),
    "crosshair_right": lambda pane: pane.move_crosshair(1),
    "crosshair_far_left": lambda pane: pane.move_crosshair(-10),
    "crosshair_far_right": lambda pane: pane.move_crosshair(10),
    "previous_mark": lambda pane: pane.to_happening(-1),
    "next_mark": lambda pane: pane.to_happening(1),
}


def _same(
    old: Sequence[tuple[RunView, RunDetail]], new: Sequence[tuple[RunView, RunDetail]]
) -> bool:
    """Whether both are the same objects, and so are drawn alike."""
    return len(old) == len(new) and all(
        a is c and b is d for (a, b), (c, d) in zip(old, new, strict=True)
    )
