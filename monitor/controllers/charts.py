"""The keys of the charts."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from monitor.controllers.host import Acts, Host
from monitor.pages.charts import ChartsPage
from monitor.plots.curves import CurveStore
from monitor.plots.scene import Scene
from monitor.widgets.chart_pane import ChartPane
from shared.text import one_line

if TYPE_CHECKING:
    from monitor.screens.metric_dialog import Choice

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
    """Hands the keys to the chart that can be seen, and says which charts there are."""

    def __init__(self, host: Host, page: ChartsPage, store: CurveStore) -> None:
        self._host, self._page, self._store = host, page, store

    def acts(self) -> Acts:
        """What each of its actions does."""
        return {
            **{name: partial(self._perform, act) for name, act in _ACTS.items()},
            "pan_left": partial(self.pan, -1),
            "pan_right": partial(self.pan, 1),
            "x_axis": self.next_axis,
            "choose_x": self.choose_axis,
            "find_metric": self.find,
            "main_metric": self.choose_main,
            "chart_size": self.next_size,
            "fold": self.fold,
            "fold_all": self.fold_all,
        }

    def pan(self, direction: int) -> None:
        """Earlier or later; in a grid that shows all there is, to the chart beside."""
        look = self._host.look
        if look.page == "charts" and not look.focused and not look.chart.is_zoomed:
            self._page.move_across(direction)
        else:
            self._perform("pan_left" if direction < 0 else "pan_right")

    # -- the x axis ----------------------------------------------------------------------

    def next_axis(self) -> None:
        """Change what x is."""
        pane = self._pane()
        if pane is None:
            return
        before = pane.scene.state
        pane.perform("next_axis")
        if pane.state == before:
            self._host.tell("This run logs neither time nor tokens. X takes a metric.", "warning")

    def choose_axis(self) -> None:
        """Ask what x is."""
        from monitor.controllers.dialogs import axis_dialog

        pane = self._pane()
        if pane is None:
            return

        def chosen(choice: Choice | None) -> None:
            if choice is not None:
                kind, _, metric = choice.value.partition(":")
                pane.set_axis(kind, metric)

        self._host.open_dialog(axis_dialog(pane.scene), chosen)

    # -- which charts --------------------------------------------------------------------

    def find(self) -> None:
        """Ask for a metric, and go to its chart."""
        from monitor.controllers.dialogs import metric_dialog

        scene = self._all()
        if scene is None:
            return

        def chosen(choice: Choice | None) -> None:
            if choice is not None:
                self.go_to(choice.value)

        self._host.open_dialog(metric_dialog(scene), chosen)

    def go_to(self, key: str) -> None:
        """Show the chart of a metric, whatever was filtered or folded before."""
        host, scene = self._host, self._all()
        if scene is None:
            return
        look, chart = host.look, host.look.chart.at_chart(scene.metrics.chart_of(key))
        if chart.query and key not in Scene(host.overlaid, chart, self._store).keys:
            chart = chart.filtered("")
        group = scene.metrics.group_of(chart.cursor)
        chart = dataclasses.replace(chart, folded=chart.folded - {group})
        focused = look.focused and look.page == "charts"
        host.look = dataclasses.replace(
            look, page="charts", in_page=True, focused=focused, chart=chart
        )

    def choose_main(self) -> None:
        """Ask for the metric to show first."""
        from monitor.controllers.dialogs import main_dialog

        host, scene = self._host, self._all()
        if scene is None:
            return

        def chosen(choice: Choice | None) -> None:
            if choice is None:
                return
            host.look = dataclasses.replace(host.look, chart=host.look.chart.led_by(choice.value))
            shown = one_line(choice.value, 80) or "the loss, or what takes its place"
            host.tell(f"Main metric: {shown}.", "success")

        host.open_dialog(main_dialog(scene), chosen)

    def next_size(self) -> None:
        """Make the charts of the grid smaller, or after the smallest large again."""
        if self._grid():
            chart = self._host.look.chart.next_size()
            self._host.look = dataclasses.replace(self._host.look, chart=chart)
            self._host.tell(f"Charts: {chart.size}.", "success")

    def fold(self) -> None:
        """Fold or unfold the group of the chart under the cursor."""
        if self._folds() and not self._page.grid.toggle_fold():
            self._host.tell("This chart is in no group of metrics.", "warning")

    def fold_all(self) -> None:
        """Fold all groups, or unfold them all."""
        if self._folds() and not self._page.grid.toggle_folds():
            self._host.tell("These metrics have no groups.", "warning")

    def refuse_fold(self) -> None:
        """Say why no group can be folded now."""
        self._host.tell("A filter shows every group unfolded; Esc clears it.", "warning")

    def _folds(self) -> bool:
        """Whether groups can be folded: not while a filter looks into all of them."""
        if not self._grid():
            return False
        if self._host.look.chart.query:
            self.refuse_fold()
            return False
        return True

    def _grid(self) -> bool:
        """Whether the grid is shown, with a chart that a key can act on."""
        look = self._host.look
        if look.page != "charts" or look.focused:
            self._host.tell("That is for the grid of charts; 2 shows it.", "warning")
            return False
        return self._pane() is not None

    # -- what there is -------------------------------------------------------------------

    def _all(self) -> Scene | None:
        """The charts of the runs that are shown, without a filter."""
        scene = Scene(self._host.overlaid, self._host.look.chart.at_main(), self._store)
        if not scene.keys:
            self._host.tell("No metrics of this run have been read yet.", "warning")
            return None
        return scene

    def _pane(self) -> ChartPane | None:
        """The chart that can be seen, if there is one that a key can act on."""
        pane = self._host.page.chart
        if pane is None:
            self._host.tell("There is no chart on this page; 2 shows them.", "warning")
        elif pane.scene.unmatched:
            self._host.tell(pane.scene.unmatched, "warning")
        else:
            return pane
        return None

    def _perform(self, act: str) -> None:
        pane = self._pane()
        if pane is not None:
            pane.perform(act)
