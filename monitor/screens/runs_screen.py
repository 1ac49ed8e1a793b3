"""The screen under all dialogs."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen


class RunsScreen(Screen[None]):
    """Runs and pages. Tab is for its two panes, not for widgets."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.act('switch_pane')", show=False),
        Binding("shift+tab", "app.act('switch_pane')", show=False),
        Binding("escape", "app.act('leave')", show=False),
    ]

    class Resized(Message):
        """It has another size now."""

    def on_resize(self) -> None:
        """Tell the app, which says what is to be seen."""
        self.post_message(self.Resized())
