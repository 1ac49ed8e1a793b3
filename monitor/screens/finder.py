"""A dialog that finds one thing among hundreds by its name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from operator import itemgetter
from typing import ClassVar, Generic, TypeVar

from rich.text import Text
from textual import events, on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from monitor.screens.dialog_box import Choices, Dialog, Result
from monitor.search import search

_LISTED = 500  # of thousands; words find the others

Item = TypeVar("Item")


class Finder(Dialog[Result], Generic[Result, Item]):
    """A line to type words or a /regular expression/ in, how many match, and the list of them.

    The keys of the line move the cursor of the list; Enter or a click takes what is there.
    """

    DEFAULT_CSS = """
    Finder #names { height: auto; max-height: 14; }
    Finder.-low #names { max-height: 8; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move('cursor_down')", "down"),
        Binding("up", "move('cursor_up')", "up"),
        Binding("pagedown", "move('page_down')", "down"),
        Binding("pageup", "move('page_up')", "up"),
    ]

    def __init__(self, title: str, items: Sequence[Item], at: int = 0) -> None:
        """The item `at` is highlighted at first."""
        super().__init__(title)
        self._items, self._at = list(items), at
        self._found: list[Item] = self._items
        self._count = Static(id="count", markup=False)
        self._list = Choices(id="names", driven=True)
        self._early = ""  # what was typed before the line could take it

    @abstractmethod
    def names_of(self, item: Item) -> Sequence[str]:
        """The texts that it is found by."""

    @abstractmethod
    def line_of(self, item: Item) -> Text:
        """How it is listed, after a space for the cursor."""

    @abstractmethod
    def take(self, item: Item) -> None:
        """It was chosen."""

    def body(self) -> list[Widget]:
        """The line, how many match, and the list of them."""
        line = Input(placeholder="words, or /regex/", compact=True, id="line")
        return [line, self._count, self._list]

    def on_mount(self) -> None:
        """List all, with the present one highlighted."""
        self._show(self._items, self._at)
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
        names = [(item, name) for item in self._items for name in self.names_of(item)]
        found, problem = search(message.value).those_of(names, itemgetter(1))
        self.say(problem)
        self._show([] if problem else list(dict.fromkeys(item for item, _ in found)))

    def _show(self, found: list[Item], at: int = 0) -> None:
        self._found = found[: max(_LISTED, at + 1)]
        self._list.set_options(Option(self.line_of(item)) for item in self._found)
        self._list.highlighted = at if found else None
        text = f"{len(found):,} of {len(self._items):,}" if found else "Nothing matches."
        if len(found) > len(self._found):
            text = f"the first {len(self._found)} of {len(found):,}; words find the others"
        self._count.update(Text(text, self.colours.style("muted")))

    def renew(self) -> None:
        """Draw the line under the cursor again."""
        at = self._list.highlighted
        if at is not None:
            self._list.replace_option_prompt_at_index(at, self.line_of(self._found[at]))

    def action_move(self, action: str) -> None:
        """Move the cursor of the list, whatever has the focus."""
        getattr(self._list, f"action_{action}")()

    @on(Input.Submitted)
    def take_highlighted(self) -> None:
        """Choose what the cursor is on, if it is on anything."""
        at = self._list.highlighted
        if at is not None and at < len(self._found):
            self.take(self._found[at])

    @on(OptionList.OptionSelected)
    def _clicked(self, message: OptionList.OptionSelected) -> None:
        message.stop()
        self.take(self._found[message.option_index])
