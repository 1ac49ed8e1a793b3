"""Choosing a metric by its name, among hundreds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual import on
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Button

from monitor.screens.finder import Finder
from monitor.widgets.cells import fit_middle

_CELLS = 68  # of a line of the list
_REMARK = 24


@dataclass(frozen=True)
class Choice:
    """What can be chosen: `name` as it is shown, `value` as the caller knows it.

    `remark` stands beside it; `also` are other names that it is found by.
    """

    name: str
    value: str
    remark: str = ""
    also: tuple[str, ...] = ()


class MetricScreen(Finder[Choice, Choice]):
    """Closes with the metric that was chosen."""

    def __init__(self, title: str, choices: Sequence[Choice], *, value: str = "") -> None:
        """`value` is the one that is highlighted at first. All texts are safe to show."""
        values = [choice.value for choice in choices]
        super().__init__(title, choices, values.index(value) if value in values else 0)

    @property
    def choices(self) -> Sequence[Choice]:
        """All that can be chosen."""
        return self._items

    def names_of(self, item: Choice) -> Sequence[str]:
        """Its own name, and those of what is drawn beside it."""
        return (item.name, *item.also)

    def line_of(self, item: Choice) -> Text:
        """The name, and the remark where any of those found has one."""
        remarked = any(choice.remark for choice in self._found)
        name = fit_middle(item.name, _CELLS - (_REMARK + 2) * remarked)
        return Text.assemble(f" {name}  ", (item.remark, self.colours.style("muted")))

    def take(self, item: Choice) -> None:
        """Close with it."""
        self.dismiss(item)

    def foot(self) -> Widget:
        """Take what is highlighted, or close."""
        return Horizontal(
            Button("Take ⏎", id="take", compact=True),
            Button("Close esc", id="close", compact=True),
            classes="buttons",
        )

    @on(Button.Pressed, "#take")
    def _take(self) -> None:
        self.take_highlighted()

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.action_close()
