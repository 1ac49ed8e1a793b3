"""The dialog that chooses the columns of the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from monitor.screens.dialog_box import Choices, Dialog
from monitor.search import search
from monitor.table.columns import MAX_COLUMNS, METRICS, Column
from shared.text import one_line

_LISTED = 500  # of thousands of keys; a filter finds the others


class ColumnsScreen(Dialog[tuple[str, ...]]):
    """Every column there can be, the chosen ones first. What is typed filters them."""

    DEFAULT_CSS = """
    ColumnsScreen Choices { height: 14; max-height: 50vh; }
    ColumnsScreen.-low Choices { height: 8; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move('down')", "down", priority=True),
        Binding("up", "move('up')", "up", priority=True),
        Binding("pagedown", "move('page_down')", "down", priority=True),
        Binding("pageup", "move('page_up')", "up", priority=True),
        Binding("ctrl+s", "save", "save", priority=True),
    ]

    def __init__(self, offered: Sequence[Column], chosen: Sequence[Column]) -> None:
        super().__init__("Columns of the table")
        self._chosen = [column.spec for column in chosen]
        self._offered = list(dict.fromkeys([*chosen, *offered]))
        self._shown: list[Column] = []
        self._list = Choices(id="columns")

    def body(self) -> list[Widget]:
        """The filter, the list, and what the keys do."""
        hint = "Enter switches a column on or off. They stand in the order in which you choose."
        muted = self.colours.style("muted")
        return [
            Input(placeholder="words, or /regex/", compact=True, id="filter"),
            self._list,
            Static(Text(hint, muted), markup=False),
        ]

    def foot(self) -> Widget:
        """The buttons."""
        return Horizontal(
            Button("Save ctrl+s", id="save", compact=True),
            Button("Usual columns", id="usual", compact=True),
            Button("Close", id="close", compact=True),
            classes="buttons",
        )

    def on_mount(self) -> None:
        """Fill the list, focus the filter."""
        self._fill()
        self.query_one(Input).focus()

    def _fill(self, at: int = 0) -> None:
        query = self.query_one(Input).value
        found, problem = search(query).those_of(self._offered, _text_of)
        self._shown = found[:_LISTED]
        self._list.clear_options()
        self._list.add_options(Option(self._line(column)) for column in self._shown)
        self._list.highlighted = min(at, len(self._shown) - 1) if self._shown else None
        if not problem and len(found) > _LISTED:
            problem = f"The first {_LISTED} of {len(found):,}; type words to find others."
        self.say(problem or ("" if found else "No column matches."))

    def _line(self, column: Column) -> Text:
        colours = self.colours
        on = column.spec in self._chosen
        kind = "metric" if column.kind in METRICS else column.kind
        text = Text(" [x] " if on else " [ ] ", colours.style("primary" if on else "muted"))
        text.append(f"{kind:<7}", colours.style("muted"))
        return text.append(one_line(column.words, 120), colours.style("foreground"))

    @on(Input.Changed)
    def _typed(self) -> None:
        self._fill()

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _switch(self) -> None:
        at = self._list.highlighted
        if at is None:
            return
        spec = self._shown[at].spec
        if spec in self._chosen:
            self._chosen.remove(spec)
        elif len(self._chosen) >= MAX_COLUMNS:
            self.say(f"The table has at most {MAX_COLUMNS} columns; switch one off first.")
            return
        else:
            self._chosen.append(spec)
        self._list.replace_option_prompt_at_index(at, self._line(self._shown[at]))

    def action_move(self, where: str) -> None:
        """Move the cursor of the list, whatever has the focus."""
        getattr(self._list, f"action_{'cursor_' * (where in ('up', 'down'))}{where}")()

    @on(Button.Pressed, "#save")
    def action_save(self) -> None:
        """Close with the chosen columns."""
        self.dismiss(tuple(self._chosen))

    @on(Button.Pressed, "#usual")
    def _usual(self) -> None:
        self.dismiss(())

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.action_close()


def _text_of(column: Column) -> str:
    kind = "metric" if column.kind in METRICS else column.kind
    return f"{column.words} \n{column.spec} \n{kind}"
