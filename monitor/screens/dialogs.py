"""Help and confirmation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from monitor.actions.registry import Action
from monitor.theme import Colours


class HelpScreen(ModalScreen[None]):
    """Every key, from the registry."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,escape,q,enter,space", "dismiss", "close")
    ]

    def __init__(self, actions: Sequence[Action]) -> None:
        super().__init__()
        self._actions = actions

    def compose(self) -> ComposeResult:
        """A box with one line per action."""
        colours = Colours(self.app)
        text = Text(no_wrap=True, overflow="ellipsis")
        for group, actions in groupby(self._actions, key=lambda a: a.group):
            text.append(f"{group}\n", colours.style("muted"))
            for action in actions:
                text.append(f"  {action.shown:<8}", colours.style("primary", bold=True))
                text.append(f"{action.help}\n", colours.style("foreground"))
        text.append("\n? or Esc closes this page", colours.style("muted"))
        box = Vertical(Static(text, markup=False), id="dialog")
        box.border_title = "Keys"
        yield box


class ConfirmScreen(ModalScreen[bool]):
    """A question answered with y or n."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
    ]

    def __init__(self, question: str, consequence: str) -> None:
        super().__init__()
        self._question = question
        self._consequence = consequence

    def compose(self) -> ComposeResult:
        """A box with the question, what follows from it, and the two keys."""
        colours = Colours(self.app)
        text = Text()
        text.append(f"{self._question}\n\n", colours.style("foreground", bold=True))
        text.append(f"{self._consequence}\n\n", colours.style("muted"))
        text.append("y", colours.style("primary", bold=True))
        text.append(" yes    ", colours.style("foreground"))
        text.append("n", colours.style("primary", bold=True))
        text.append(" no", colours.style("foreground"))
        yield Vertical(Static(text, markup=False), id="dialog")

    def action_answer(self, yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(yes)
