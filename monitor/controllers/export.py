"""Taking along: the chart, the data or the page as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitor.controllers.host import Acts, Host
from monitor.widgets.chart_pane import ChartPane
from shared.text import one_line

if TYPE_CHECKING:
    from monitor.actions import export as exporting


class Export:
    """The key that exports. `loss` is the chart to take where the page has none."""

    def __init__(self, host: Host, loss: ChartPane) -> None:
        self._host, self._loss = host, loss

    def acts(self) -> Acts:
        """What each of its actions does."""
        return {"export": self.export}

    def export(self) -> None:
        """Ask what and where, and write it."""
        from monitor.actions import export as exporting
        from monitor.controllers.dialogs import export_dialog

        host, view = self._host, self._host.selected
        if view is None:
            return
        figure = self._figure()

        def chosen(choice: exporting.ExportChoice | None) -> None:
            if choice is not None:
                host.tell(f"Writing {one_line(choice.path)}…")
                host.act(lambda: exporting.export(view, choice, figure))

        host.open_dialog(export_dialog(view, figure), chosen)

    def _figure(self) -> exporting.Chart | None:
        """The chart that is looked at: the focused one, or that under the cursor."""
        from monitor.actions import export as exporting

        scene = (self._host.page.chart or self._loss).scene
        return exporting.chart_of(scene, scene.key) if scene.shown and scene.key else None
