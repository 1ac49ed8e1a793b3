"""What the app offers to the controllers of its keys."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from textual.message import Message
from textual.screen import Screen

from monitor.actions.deeds import Deeds
from monitor.data.views import RunDetail, RunView, Snapshot
from monitor.layout import Layout
from monitor.list_order import Listing
from monitor.look import Look
from monitor.pages.page import PageController

Answer = TypeVar("Answer")
Acts = Mapping[str, Callable[[], object]]  # by the names of the registry


class Host(Protocol):
    """The app, as a controller sees it. To set `look` shows what it says."""

    look: Look

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest data."""

    @property
    def listing(self) -> Listing:
        """The runs in the list."""

    @property
    def selected(self) -> RunView | None:
        """The selected run as last seen."""

    @property
    def detail(self) -> RunDetail | None:
        """What was read of it."""

    @property
    def overlaid(self) -> list[tuple[RunView, RunDetail]]:
        """The runs on the charts, as far as they have been read."""

    @property
    def page(self) -> PageController:
        """The present page."""

    @property
    def layout(self) -> Layout:
        """Which panes are shown."""

    @property
    def runs_dir(self) -> Path:
        """The folder that is watched."""

    @property
    def deeds(self) -> Deeds:
        """Who does what the keys ask for, here or on another host."""

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds since the epoch."""

    @property
    def gone(self) -> threading.Event:
        """Set once nobody looks at the screen any more."""

    def show_page(self) -> None:
        """Draw the present page again."""

    def refresh_runs(self) -> None:
        """Read everything again now."""

    def tell(self, text: str, colour: str = "primary") -> None:
        """Say something above the keys for a while."""

    def post_message(self, message: Message) -> bool:
        """Send a message to the app, from any thread."""

    def act(self, work: Callable[[], str]) -> None:
        """Do `work` in the background and tell the text it returns, or the error it raises."""

    def open_dialog(
        self, screen: Screen[Answer], answered: Callable[[Answer | None], None] | None = None
    ) -> None:
        """Show a dialog; `answered` gets what it was closed with."""

    def copy_to_clipboard(self, text: str) -> None:
        """Copy through the terminal."""
