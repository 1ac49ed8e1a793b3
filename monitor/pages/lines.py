"""Pages that are one list of lines: events, log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.widget import Widget

from monitor.pages.page import PageController, Seen
from monitor.widgets.page import Page
from monitor.widgets.run_pages import EventsPage, LogPage


class LinesPage(PageController):
    """One widget that scrolls; `show` hands it what it shows."""

    def __init__(self, name: str, widget: Page, show: Callable[[Seen], None]) -> None:
        self.name = name
        self._widget, self._show = widget, show

    def widgets(self) -> Sequence[Widget]:
        """The list of lines."""
        return [self._widget]

    def show(self, seen: Seen) -> None:
        """Show it."""
        self._show(seen)

    def move(self, by: int) -> None:
        """Scroll by lines."""
        self._widget.scroll_by(by)

    def turn(self, pages: int) -> None:
        """Scroll by what is seen at once."""
        self._widget.scroll_pages(pages)


def events_page() -> PageController:
    """What happened to the selected run."""
    widget = EventsPage(id="events")
    return LinesPage("events", widget, lambda seen: widget.show(seen.detail))


def log_page() -> PageController:
    """The end of its log."""
    widget = LogPage(id="log")
    return LinesPage("log", widget, lambda seen: widget.show(seen.view, seen.detail))
