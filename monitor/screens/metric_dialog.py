"""Choosing a metric by its name, among hundreds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from monitor.screens.dialog_box import Choices, Dialog
from monitor.search import search
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


class MetricScreen(Dialog[Choice]):
    """A line to type words or a /regular expression/ in, and what matches; Enter takes it."""

    DEFAULT_CSS = """
    MetricScreen #names { height: auto; max-height: 14; }
    MetricScreen.-low #names { max-height: 8; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move('cursor_down')", "down"),
        Binding("up", "move('cursor_up')", "up"),
        Binding("pagedown", "move('page_down')", "down"),
        Binding("pageup", "move('page_up')", "up"),
    ]

    def __init__(self, title: str, choices: Sequence[Choice], *, value: str = "") -> None:
        """`value` is the one that is highlighted at first. All texts are safe to show."""
        super().__init__(title)
        self._choices, self._value = list(choices), value
        self._found: list[Choice] = self._choices
        self._count = Static(id="count", markup=False)
        self._names = Choices(id="names", driven=True)
        self._early = ""  # what was typed before the line could take it

    @property
    def choices(self) -> Sequence[Choice]:
        """All that can be chosen."""
        return self._choices

    def body(self) -> list[Widget]:
        """The line, how many match, and the list of them."""
        line = Input(placeholder="words, or /regex/", compact=True, id="line")
        return [line, self._count, self._names]

    def foot(self) -> Widget:
        """Take what is highlighted, or close."""
        return Horizontal(
            Button("Take ⏎", id="take", compact=True),
            Button("Close esc", id="close", compact=True),
            classes="buttons",
        )

    def on_mount(self) -> None:
        """List all, with the present one highlighted."""
        self._list(self._choices)
        values = [choice.value for choice in self._choices]
        if self._value in values:
            self._names.highlighted = values.index(self._value)
        line = self.query_one(Input)
        line.focus()
        line.insert_text_at_cursor(self._early)

    def on_key(self, event: events.Key) -> None:
        """Take what is typed while the dialog opens."""
        if event.is_printable and event.character and not self.query(Input):
            self._early += event.character

    @on(Input.Changed)
    def _typed(self, message: Input.Changed) -> None:
        message.stop()
        names = [(one, name) for one in self._choices for name in (one.name, *one.also)]
        found, problem = search(message.value).those_of(names, itemgetter(1))
        self.say(problem)
        self._list([] if problem else list(dict.fromkeys(one for one, _ in found)))

    def _list(self, found: list[Choice]) -> None:
        self._found = found
        muted = self.colours.style("muted")
        room = _CELLS - (_REMARK + 2 if any(choice.remark for choice in found) else 0)
        self._names.set_options(
            Option(Text.assemble(f" {fit_middle(one.name, room)}  ", (one.remark, muted)))
            for one in found
        )
        self._names.highlighted = 0 if found else None
        text = f"{len(found):,} of {len(self._choices):,}" if found else "Nothing matches."
        self._count.update(Text(text, muted))

    def action_move(self, action: str) -> None:
        """Move the highlight."""
        getattr(self._names, f"action_{action}")()

    @on(Input.Submitted)
    @on(Button.Pressed, "#take")
    def _take(self) -> None:
        index = self._names.highlighted
        if index is not None and index < len(self._found):
            self.dismiss(self._found[index])

    @on(OptionList.OptionSelected)
    def _clicked(self, message: OptionList.OptionSelected) -> None:
        message.stop()
        self.dismiss(self._found[message.option_index])

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.action_close()
