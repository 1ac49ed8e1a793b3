"""The first and the last line of the screen."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.timer import Timer
from textual.widgets import Input, Static

from monitor.actions.registry import Action
from monitor.chart.terminal import MIN_HEIGHT, MIN_WIDTH
from monitor.data.views import RunView
from monitor.widgets.cells import Piece, line, spread
from monitor.widgets.panel import Panel

_ORDER = ("running", "initializing", "paused", "stopping", "stalled", "crashed", "failed", "queued")
_NOTICE_LINES = 4
#: Seconds a notice stays, by its colour. The primary one waits to be replaced by its answer.
_NOTICE_SECONDS = {"primary": 60.0, "success": 8.0, "warning": 12.0, "error": 30.0}


class TopBar(Panel):
    """The runs directory, and how many runs are in which status."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._runs_dir = ""
        self._counts: tuple[tuple[str, int], ...] = ()

    def show(self, runs_dir: str, runs: Sequence[RunView]) -> None:
        """Show how many runs are in each status."""
        counted = Counter(run.status for run in runs)
        counts = tuple((s, counted[s]) for s in _ORDER if counted[s])
        if (runs_dir, counts) != (self._runs_dir, self._counts):
            self._runs_dir, self._counts = runs_dir, counts
            self.redraw()

    def draw(self, width: int, height: int) -> list[Strip]:
        """One line."""
        colours = self.colours
        muted = colours.style("muted")
        left: list[Piece] = [
            (" train-monitor ", colours.style("primary", bold=True)),
            (f" {self._runs_dir}", muted),
        ]
        right: list[Piece] = []
        for status, count in self._counts:
            right += [(" · ", muted)] if right else []
            right.append((f"{count} {status}", colours.status(status)))
        right.append((" ", muted))
        return [spread(left, right, width, self.base)]


class Notice(Panel):
    """The outcome of an action, shown for a while over the lines above the keys."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.text = ""
        self._colour = "primary"
        self._timer: Timer | None = None

    def tell(self, text: str, colour: str) -> None:
        """Show `text`, already safe, for as long as a notice of this colour stays."""
        if self._timer is not None:
            self._timer.stop()
        self.show(text, colour)
        self._timer = self.set_timer(_NOTICE_SECONDS[colour], lambda: self.show("", "primary"))

    def show(self, text: str, colour: str) -> None:
        """Show `text`, already safe, in the colour of that name; nothing if it is empty."""
        self.text, self._colour = text, colour
        self.display = bool(text)
        self.refresh(layout=True)
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as the text needs."""
        return max(1, len(self._folded(width)))

    def draw(self, width: int, height: int) -> list[Strip]:
        """The text, word by word."""
        colours = self.colours
        rail, text = colours.style(self._colour, bold=True), colours.style("foreground")
        return [line([(" ▌ ", rail), (x, text)], width, self.base) for x in self._folded(width)]

    def _folded(self, width: int) -> list[str]:
        return textwrap.wrap(self.text, max(10, width - 4))[:_NOTICE_LINES]


class Prompt(Horizontal):
    """A line to type a filter of runs or metrics in; every change is posted at once."""

    class Changed(Message):
        """The text has changed."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Closed(Message):
        """The prompt was closed; `text` is the filter to keep."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "clear", "clear"),
        Binding("tab,down,up", "keep", "keep", priority=True),
    ]

    def compose(self) -> ComposeResult:
        """A label, the input, and how many match."""
        yield Static(" filter ", id="prompt-sign", markup=False)
        yield Input(placeholder="words, or /regex/", compact=True, id="prompt-text")
        yield Static("", id="prompt-found", markup=False)

    def open(self, text: str, sign: str) -> None:
        """Show it with this text and this label, and focus it."""
        self.display = True
        self.query_one("#prompt-sign", Static).update(Text(f" {sign} "))
        field = self.query_one(Input)
        field.value = text
        field.cursor_position = len(text)
        # At once: `focus` would let the next key through to the actions.
        self.screen.set_focus(field)

    @property
    def is_open(self) -> bool:
        """Whether it has the focus; false while a dialog is open."""
        return bool(self.display) and self.is_mounted and self.app.screen is self.screen

    def type(self, character: str) -> None:
        """Insert a character that was sent to the app."""
        self.query_one(Input).insert_text_at_cursor(character)

    def say(self, text: str) -> None:
        """Show how many match, or what is wrong."""
        self.query_one("#prompt-found", Static).update(Text(f"{text} "))

    @on(Input.Changed)
    def _typed(self, message: Input.Changed) -> None:
        message.stop()
        if self.display:
            self.post_message(self.Changed(message.value))

    @on(Input.Submitted)
    def action_keep(self) -> None:
        """Close it and keep the filter."""
        self._close(self.query_one(Input).value)

    def action_clear(self) -> None:
        """Close it without a filter."""
        self._close("")

    def _close(self, text: str) -> None:
        self.display = False
        self.post_message(self.Closed(text))


class KeyBar(Panel):
    """The labelled keys of the registry; clicking one runs its action."""

    def __init__(self, actions: Sequence[Action], *, id: str | None = None) -> None:
        super().__init__(id=id)
        shown = [_Key(a.shown, a.label, a.call) for a in actions if a.label]
        self._keys = [*_MOVING, *shown]
        self._labelled = shown

    def draw(self, width: int, height: int) -> list[Strip]:
        """One line, as many keys as there is room for."""
        colours = self.colours
        key, word = colours.style("primary", bold=True), colours.style("muted")
        pieces: list[Piece] = []
        for shown in self._fitting(width):
            pieces += [(f" {shown.key}", key), (f" {shown.word} ", word)]
        return [line(pieces, width, self.base)]

    def _fitting(self, width: int) -> list[_Key]:
        """The keys that fit; the last two, help and quit, are always among them."""
        if self.app.size.width < MIN_WIDTH or self.app.size.height < MIN_HEIGHT:
            return self._labelled[-1:]  # nothing is shown for another key to act on
        for keys in (self._keys, [*_MOVING[1:2], *self._labelled], list(self._labelled)):
            if sum(key.cells for key in keys) <= width:
                return keys
        while len(keys) > 2 and sum(key.cells for key in keys) > width:
            del keys[-3]
        return keys

    async def on_click(self, event: events.Click) -> None:
        """Run the action of the key under the pointer."""
        x = 0
        for key in self._fitting(self.size.width):
            x += key.cells
            if event.x < x:
                if key.action:
                    await self.app.run_action(key.action)
                return


@dataclass(frozen=True)
class _Key:
    """A key, its label, and its action, if it has a single one."""

    key: str
    word: str
    action: str = ""

    @property
    def cells(self) -> int:
        """The width of key and label with the spaces around them."""
        return cell_len(self.key) + cell_len(self.word) + 3


_MOVING = (_Key("j k", "select"), _Key("1-9", "pages"), _Key("Enter", "open", "act('open')"))
