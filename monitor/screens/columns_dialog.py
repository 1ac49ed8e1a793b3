"""The dialog that chooses the columns of the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Button, Static

from monitor.screens.finder import Finder
from monitor.table.columns import MAX_COLUMNS, METRICS, Column
from shared.text import one_line


class ColumnsScreen(Finder[tuple[str, ...], Column]):
    """Every column there can be, the chosen ones first; closes with those that are switched on."""

    DEFAULT_CSS = """
    ColumnsScreen #names { height: 14; max-height: 50vh; }
    ColumnsScreen.-low #names { height: 8; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "save", "save", priority=True)]

    def __init__(self, offered: Sequence[Column], chosen: Sequence[Column]) -> None:
        super().__init__("Columns of the table", list(dict.fromkeys([*chosen, *offered])))
        self._chosen = [column.spec for column in chosen]

    def names_of(self, item: Column) -> Sequence[str]:
        """What it shows, how the settings call it, and its kind."""
        return (f"{item.words} \n{item.spec} \n{_kind(item)}",)

    def line_of(self, item: Column) -> Text:
        """A box, the kind, the words."""
        colours = self.colours
        on = item.spec in self._chosen
        text = Text(" [x] " if on else " [ ] ", colours.style("primary" if on else "muted"))
        text.append(f"{_kind(item):<7}", colours.style("muted"))
        return text.append(one_line(item.words, 120), colours.style("foreground"))

    def take(self, item: Column) -> None:
        """Switch it on or off."""
        if item.spec in self._chosen:
            self._chosen.remove(item.spec)
        elif len(self._chosen) >= MAX_COLUMNS:
            self.say(f"The table has at most {MAX_COLUMNS} columns; switch one off first.")
            return
        else:
            self._chosen.append(item.spec)
        self.say("")
        self.renew()

    def body(self) -> list[Widget]:
        """The filter, the list, and what the keys do."""
        hint = "Enter switches a column on or off. They stand in the order in which you choose."
        return [*super().body(), Static(Text(hint, self.colours.style("muted")), markup=False)]

    def foot(self) -> Widget:
        """The buttons."""
        return Horizontal(
            Button("Save ctrl+s", id="save", compact=True),
            Button("Usual columns", id="usual", compact=True),
            Button("Close", id="close", compact=True),
            classes="buttons",
        )

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


def _kind(column: Column) -> str:
    return "metric" if column.kind in METRICS else column.kind
