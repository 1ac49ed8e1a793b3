"""Help and confirmation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, Static

from monitor.actions.registry import Action
from monitor.screens.dialog_box import Dialog
from monitor.theme import colours_of

_COLUMN = 62  # cells of a column of keys
_KEY = 8


class HelpScreen(ModalScreen[None]):
    """Every key, from the registry."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,escape,q,enter,space", "dismiss", "close"),
        Binding("j,down", "scroll(1)", "down"),
        Binding("k,up", "scroll(-1)", "up"),
        Binding("pagedown", "scroll(10)", "down"),
        Binding("pageup", "scroll(-10)", "up"),
        Binding("g,home", "scroll(-1000)", "top"),
        Binding("G,end", "scroll(1000)", "bottom"),
    ]

    def __init__(self, actions: Sequence[Action], note: str = "") -> None:
        """`note`, safe to show, comes first."""
        super().__init__()
        self._note = note
        self._actions = actions

    def compose(self) -> ComposeResult:
        """A box with one line per action, in as many columns as fit."""
        colours = colours_of(self.app)
        groups = [(name, list(found)) for name, found in groupby(self._actions, lambda a: a.group)]
        count = max(1, min(3, (self.app.size.width - 8) // _COLUMN))
        lines = sum(len(found) + 2 for _, found in groups)
        columns = [Text(no_wrap=True, overflow="ellipsis") for _ in range(count)]
        used = 0
        for name, found in groups:
            text = columns[min(count - 1, used * count // lines)]
            text.append(f"{name}\n", colours.style("muted", bold=True))
            for action in found:
                text.append(f"  {action.shown:<{_KEY}}", colours.style("primary", bold=True))
                text.append(f"{action.help}\n", colours.style("foreground"))
            text.append("\n")
            used += len(found) + 2
        for text in columns:
            text.rstrip()
        note = Text(f"{self._note}\n", colours.style("muted"))
        box = VerticalScroll(
            *([Static(note, markup=False)] if self._note else []),
            Horizontal(*[Static(text, markup=False) for text in columns]),
            id="dialog",
        )
        box.can_focus = False
        box.border_title = "Keys"
        box.border_subtitle = "? or Esc closes · j k scroll"
        yield box

    def action_scroll(self, lines: int) -> None:
        """Scroll the box."""
        # At once: a scroll that waits for the next refresh would swallow the keys before it.
        self.query_one("#dialog").scroll_relative(y=lines, animate=False, immediate=True)


class ConfirmScreen(Dialog[bool]):
    """A question. "No" has the focus, so Enter alone changes nothing."""

    DEFAULT_CSS = """
    ConfirmScreen .box { width: 64; }
    ConfirmScreen #hint { width: 1fr; color: $muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,q", "answer(False)", "no"),
        Binding("right,down", "app.focus_next", "the other answer"),
        Binding("left,up", "app.focus_previous", "the other answer"),
    ]

    def __init__(self, question: str, consequence: str) -> None:
        """Both are safe to show."""
        super().__init__("")
        self._question = question
        self._consequence = consequence

    def body(self) -> list[Widget]:
        """The question and its consequence."""
        colours = self.colours
        question = Text(self._question, colours.style("foreground", bold=True))
        consequence = Text(self._consequence, colours.style("muted"))
        return [
            Static(question, markup=False),
            Static(classes="gap"),
            Static(consequence, markup=False),
        ]

    def foot(self) -> Widget:
        """The answers."""
        return Horizontal(
            Button("No n", id="no", compact=True),
            Button("Yes y", id="yes", compact=True, classes="-danger"),
            Static("⏎ takes the highlighted answer", id="hint", markup=False),
            classes="buttons",
        )

    def on_mount(self) -> None:
        """Focus the harmless answer."""
        self.query_one("#no").focus()

    def action_answer(self, yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(yes)

    def action_close(self) -> None:
        """Closing means no."""
        self.dismiss(False)

    @on(Button.Pressed)
    def _pressed(self, message: Button.Pressed) -> None:
        self.dismiss(message.button.id == "yes")
