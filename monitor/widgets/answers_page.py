"""Answers to tasks and what they are worth: a list of them, and the one under the cursor."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, chop_cells
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from monitor.data.views import AnswerView
from monitor.palette import Colours
from monitor.widgets.cells import Piece, fit, fit_middle, line, number, thousands
from monitor.widgets.page import Line, Page
from monitor.widgets.panel import Panel
from shared.text import plural

_MOST_ROWS = 8  # of the list
_REWARD = 8
_INDENT = "   "
_LONGEST_NAME = 32  # cells of a task's name in the list
_CHECKS = (("parse", 6), ("compile", 8), ("tests", 7))


class AnswerList(Panel):
    """A heading and a line per answer, around the one under the cursor."""

    class Clicked(Message):
        """An answer was clicked."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._answers: Sequence[AnswerView] = ()
        self._cursor = 0
        self._active = False
        self._top = 0

    def show(self, answers: Sequence[AnswerView], cursor: int, *, active: bool) -> None:
        """Show these answers; `active`: the keys move the cursor."""
        if (answers, cursor, active) == (self._answers, self._cursor, self._active):
            return
        if len(answers) != len(self._answers):
            self.refresh(layout=True)
        self._answers, self._cursor, self._active = answers, cursor, active
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The height of the heading and of the first answers."""
        return 1 + max(1, min(_MOST_ROWS, len(self._answers)))

    def draw(self, width: int, height: int) -> list[Strip]:
        """The answers around the cursor."""
        colours = self.colours
        muted = colours.style("muted")
        rows = max(1, height - 1)
        self._top = min(max(self._top, self._cursor - rows + 1), self._cursor)
        self._top = max(0, min(self._top, len(self._answers) - rows))
        titles = "".join(fit(name, cells) for name, cells in _CHECKS)
        named = min(_LONGEST_NAME, max((cell_len(a.prompt_id) for a in self._answers), default=0))
        heading: list[Piece] = [
            (fit("iteration", 10, right=True) + fit("reward", _REWARD, right=True), muted),
            (f"  {titles}{fit('task', named + 2)}what the compiler said", muted),
        ]
        strips = [line(heading, width, self.base + self.heading_style())]
        shown = self._answers[self._top : self._top + rows]
        for index, answer in enumerate(shown, self._top):
            here = index == self._cursor
            base = self.base + colours.selected(active=self._active) if here else self.base
            bar = colours.style("primary" if self._active else "faint", bold=True)
            pieces: list[Piece] = [
                ("▌" if here else " ", bar),
                (fit(thousands(answer.iteration), 9, right=True), muted),
                (fit(number(answer.reward, 3), _REWARD, right=True) + "  ",
                 colours.style("foreground", bold=here)),
                *_checks(answer, colours),
                (fit(answer.prompt_id, named) + "  ", colours.style("foreground")),
                (answer.messages[0].partition("\n")[0] if answer.messages else "", muted),
            ]  # fmt: skip
            strips.append(line(pieces, width, base))
        return strips

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the answer under the pointer."""
        index = self._top + event.y - 1
        if event.y >= 1 and index < len(self._answers):
            self.post_message(self.Clicked(index))


class AnswerText(Page):
    """One answer in full: what it is worth, what the compiler said, the task, the text."""

    title = "answer"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._answer: AnswerView | None = None
        self._place = ""

    def show(self, answer: AnswerView | None, place: str) -> None:
        """Show this answer, and which one of how many it is; another one begins at its top."""
        if (answer, place) == (self._answer, self._place):
            return
        if answer != self._answer:
            self._top = 0
        self._answer, self._place = answer, place
        self.redraw()

    def remark(self) -> str:
        """Which one it is, and the keys."""
        return self._place

    def lines(self, width: int, colours: Colours) -> list[Line]:
        """Worth, messages, task, answer."""
        answer = self._answer
        muted, text = colours.style("muted"), colours.style("foreground")
        if answer is None:
            return [[(" no answers yet", muted)]]
        name = fit_middle(answer.prompt_id or "a task", max(8, width - 24))
        found: list[Line] = [
            [
                (f" {name}", colours.style("primary", bold=True)),
                (f"  iteration {thousands(answer.iteration)}", muted),
            ],
            _worth(answer, colours),
            [(" ", muted), *_verdict(answer, colours), *_length(answer, colours)],
        ]
        if answer.messages:
            found += [[], [(" what the compiler said", muted)]]
            style = colours.style("error" if answer.compiled is False else "warning")
            for message in answer.messages:
                found += _body(message, width, [(len(message), style)])
        found += [[], [(" task", muted)]]
        found += _body(answer.prompt.rstrip(), width, [(len(answer.prompt), muted)])
        heading = " answer, what was given dimmed" if answer.given else " answer"
        found += [[], [(heading, muted)]]
        given = min(answer.given, len(answer.completion))
        found += _body(
            answer.completion, width, [(given, muted), (len(answer.completion) - given, text)]
        )
        return found


def _worth(answer: AnswerView, colours: Colours) -> Line:
    muted, text = colours.style("muted"), colours.style("foreground")
    pieces: Line = [
        (" reward ", muted),
        (number(answer.reward, 3), colours.style("foreground", bold=True)),
    ]
    for name, points in answer.parts:
        pieces += [(f"  {name} ", muted), (number(points, 3), text)]
    return pieces


def _checks(answer: AnswerView, colours: Colours) -> Line:
    """The columns of the list; `·` where that was not looked at."""
    told = (answer.parsed, answer.compiled, answer.tested)
    pieces: Line = []
    for holds, (_, cells) in zip(told, _CHECKS, strict=True):
        sign, style = _sign(holds, colours)
        pieces += [("  ", style), (fit(sign, cells - 2), style)]
    return pieces


def _verdict(answer: AnswerView, colours: Colours) -> Line:
    """Whether it parses, compiles and passes its tests, in words."""
    pieces: Line = []
    for told, name in (
        (answer.parsed, "parses"), (answer.compiled, "compiles"), (answer.tested, "passes tests")
    ):  # fmt: skip
        sign, style = _sign(told, colours)
        pieces += [(sign, style), (f" {name}  ", colours.style("muted"))]
    return pieces


def _sign(told: bool | None, colours: Colours) -> tuple[str, Style]:
    ink, sign = {True: ("good", "✓"), False: ("error", "✗"), None: ("muted", "·")}[told]
    return sign, colours.style(ink, bold=told is not None)


def _length(answer: AnswerView, colours: Colours) -> Line:
    pieces: Line = []
    if answer.tokens is not None:
        pieces.append((f"{plural(answer.tokens, 'token')}  ", colours.style("muted")))
    if answer.truncated:
        pieces.append(("cut off", colours.style("warning")))
    return pieces


def _body(text: str, width: int, styles: Sequence[tuple[int, Style]]) -> list[Line]:
    """Text with its line breaks and indentation; each style is that of so many characters."""
    found: list[Line] = []
    place = 0
    for raw in text.split("\n"):
        for part in chop_cells(raw, max(8, width - 5)) or [""]:
            found.append([(_INDENT, styles[-1][1]), *_styled(part, place, styles)])
            place += len(part)
        place += 1  # the line break
    return found


def _styled(part: str, place: int, styles: Sequence[tuple[int, Style]]) -> Line:
    """`part`, which begins at character `place` of the text."""
    pieces: Line = []
    end = -place
    for count, style in styles:
        begin, end = max(0, end), end + count
        if end > begin:
            pieces.append((part[begin:end], style))
    return [piece for piece in pieces if piece[0]]
