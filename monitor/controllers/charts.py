"""The keys of the charts."""

from __future__ import annotations

from functools import partial

from monitor.controllers.host import Acts, Host
from monitor.pages.charts import ChartsPage
from monitor.widgets.chart_pane import ChartPane

#: What a pane does, by the name of the action.
_ACTS = {
    "zoom_in": "zoom_in",
    "zoom_out": "zoom_out",
    "zoom_reset": "reset",
    "log_y": "log_y",
    "log_x": "log_x",
    "smooth_more": "smoother",
    "smooth_less": "rougher",
    "crosshair_left": "crosshair_left",
    "crosshair_right": "crosshair_right",
    "crosshair_far_left": "crosshair_far_left",
    "crosshair_far_right": "crosshair_far_right",
    "previous_mark": "previous_mark",
    "next_mark": "next_mark",
}


class Charts:
    """Hands the keys to the chart that can be seen."""

    def __init__(self, host: Host, page: ChartsPage) -> None:
        self._host, self._page = host, page

    def acts(self) -> Acts:
        """What each of its actions does."""
        return {
            **{name: partial(self._perform, act) for name, act in _ACTS.items()},
            "pan_left": partial(self.pan, -1),
            "pan_right": partial(self.pan, 1),
            "x_axis": self.next_axis,
        }

    def pan(self, direction: int) -> None:
        """Earlier or later; in a grid that shows all there is, to the chart beside."""
        look = self._host.look
        if look.page == "charts" and not look.focused and not look.chart.is_zoomed:
            self._page.move_across(direction)
        else:
            self._perform("pan_left" if direction < 0 else "pan_right")

    def next_axis(self) -> None:
        """Change what x is."""
        before = self._host.look.chart.axis
        pane = self._perform("next_axis")
        if pane is not None and pane.state.axis == before:
            self._host.tell("This run logs neither time nor tokens.", "warning")

    def _perform(self, act: str) -> ChartPane | None:
        pane = self._host.page.chart
        if pane is None:
            self._host.tell("There is no chart on this page; 2 shows them.", "warning")
        else:
            pane.perform(act)
        return pane
