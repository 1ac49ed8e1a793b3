"""What the model wrote while it was trained: texts, or answers to tasks one at a time."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widget import Widget

from monitor.data.views import AnswerView, RunDetail, SampleView
from monitor.layout import Layout
from monitor.pages.page import PageController, Seen
from monitor.widgets.answers_page import AnswerList, AnswerText
from monitor.widgets.run_pages import SamplesPage as SampleLines
from shared.text import format_time


class SamplesPage(PageController):
    """Text samples; of reinforcement learning the answers, of which one is under the cursor.

    The cursor stays on its answer while newer ones come, unless it is on the newest.
    """

    name = "samples"

    def __init__(self) -> None:
        self._texts = SampleLines(id="samples")
        self._list = AnswerList(id="answers")
        self._text = AnswerText(id="answer")
        self._run_id = ""
        self._answers: tuple[AnswerView, ...] = ()
        self._cursor = 0
        self._seen: Seen | None = None

    def widgets(self) -> Sequence[Widget]:
        """The texts; or the list of answers and one of them."""
        return [self._texts, self._list, self._text]

    def panes(self, seen: Seen, layout: Layout) -> dict[Widget, bool]:
        """The list of answers needs room of its own."""
        answers = bool(seen.detail and seen.detail.answers)
        return {
            self._texts: not answers,
            self._list: answers and layout.is_tall,
            self._text: answers,
        }

    def show(self, seen: Seen) -> None:
        """Show the selected run."""
        self._seen = seen
        answers = seen.detail.answers if seen.detail else ()
        run_id = seen.look.selected or ""
        if run_id != self._run_id:
            self._cursor = 0
        elif answers is not self._answers:
            self._cursor = _followed(self._answers, self._cursor, answers)
        self._run_id, self._answers = run_id, answers
        if not answers:
            self._texts.show(run_id, _texts(seen.detail))
            return
        self._list.show(answers, self._cursor, active=seen.look.in_page)
        keys = " · j k others · PgDn more" if seen.look.in_page else ""
        place = f"{self._cursor + 1} of {len(answers)}{keys}"
        self._text.show(answers[self._cursor], place)

    def go_to(self, index: int) -> None:
        """Show that answer."""
        self._cursor = min(max(0, index), max(0, len(self._answers) - 1))
        if self._seen is not None:
            self.show(self._seen)

    def move(self, by: int) -> None:
        """To the next answer; scroll texts by lines."""
        if self._answers:
            self.go_to(self._cursor + by)
        else:
            self._texts.scroll_by(by)

    def turn(self, pages: int) -> None:
        """Scroll by what is seen at once."""
        (self._text if self._answers else self._texts).scroll_pages(pages)


def _followed(before: Sequence[AnswerView], cursor: int, after: Sequence[AnswerView]) -> int:
    """Where the answer under the cursor is now; at the top, if it was there or is gone."""
    if not cursor or cursor >= len(before):
        return 0
    wanted = before[cursor]
    return next((index for index, answer in enumerate(after) if answer == wanted), 0)


def _texts(detail: RunDetail | None) -> tuple[tuple[str, str], ...]:
    """Heading and text of every sample, the newest first."""
    found = reversed(detail.samples) if detail else ()
    return tuple((_heading(sample), sample.text) for sample in found)


def _heading(sample: SampleView) -> str:
    step = "a sample" if sample.step is None else f"step {sample.step:,}"
    return step if sample.time is None else f"{step} · {format_time(sample.time)}"
