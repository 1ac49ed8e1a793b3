"""Pages that are one list of lines: events, log, samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.widget import Widget

from monitor.data.views import RunDetail, SampleView
from monitor.pages.page import PageController, Seen
from monitor.widgets.page import Page
from monitor.widgets.run_pages import EventsPage, LogPage, SamplesPage
from shared.text import format_time


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


def samples_page() -> PageController:
    """What it wrote while it was trained."""
    widget = SamplesPage(id="samples")

    def show(seen: Seen) -> None:
        widget.show(seen.look.selected or "", _samples(seen.detail))

    return LinesPage("samples", widget, show)


def _samples(detail: RunDetail | None) -> tuple[tuple[str, str], ...]:
    """Heading and text of every sample, the newest first."""
    found = reversed(detail.samples) if detail else ()
    return tuple((_sample_heading(sample), sample.text) for sample in found)


def _sample_heading(sample: SampleView) -> str:
    step = "a sample" if sample.step is None else f"step {sample.step:,}"
    return step if sample.time is None else f"{step} · {format_time(sample.time)}"
