"""The configuration of the selected run, or where those of two runs differ."""

from __future__ import annotations

from monitor.pages.lines import LinesPage
from monitor.pages.page import PageController, Seen
from monitor.widgets.run_pages import ConfigPage


def config_page() -> PageController:
    """One configuration, or two compared."""
    widget = ConfigPage(id="config")

    def show(seen: Seen) -> None:
        if not _compare(widget, seen):
            widget.show(seen.detail)

    return LinesPage("config", widget, show)


def _compare(widget: ConfigPage, seen: Seen) -> bool:
    """Show the two that are compared; False until both have been read."""
    if seen.look.compared is None or seen.snapshot is None:
        return False
    views = [seen.snapshot.run(run_id) for run_id in seen.look.compared]
    details = [seen.details.get(run_id) for run_id in seen.look.compared]
    if not (all(views) and all(details)):
        return False
    first, second = (detail.config for detail in details if detail)
    labels = [view.label for view in views if view]
    widget.compare((labels[0], labels[1]), (first, second))
    return True
