"""What dialogs share: a box over the main screen, and background work."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import ClassVar, TypeVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Checkbox, OptionList, Static
from textual.widgets.option_list import Option

from monitor.background import in_thread
from monitor.palette import Colours
from monitor.theme import colours_of
from shared.errors import UserError
from shared.text import one_line

Result = TypeVar("Result")
Found = TypeVar("Found")


class Check(Checkbox):
    """A checkbox that is readable without colours."""

    DEFAULT_CSS = "Check { width: auto; margin-right: 3; padding: 0; }"
    BUTTON_LEFT = BUTTON_RIGHT = ""
    BUTTON_INNER = "[ ]"

    def __init__(self, label: str, *, value: bool = False, id: str) -> None:
        super().__init__(label, value, id=id, compact=True)
        self._mark()

    def watch_value(self) -> None:
        """Show it."""
        self._mark()
        super().watch_value()

    def _mark(self) -> None:
        self.BUTTON_INNER = "[x]" if self.value else "[ ]"


class Choices(OptionList):
    """One-line options. A bar marks the one under the cursor, as in the list of runs.

    Every option begins with a space, where the bar is drawn. `driven`: the keys of another widget
    move the cursor.
    """

    def __init__(self, *options: Option, id: str, driven: bool = False) -> None:
        super().__init__(*options, markup=False, compact=True, id=id)
        self._driven = driven
        self.can_focus = not driven

    def render_line(self, y: int) -> Strip:
        """The option of a line."""
        strip = super().render_line(y)
        if self.highlighted is None or self.scroll_offset.y + y != self.highlighted:
            return strip
        ground = next((segment.style for segment in strip if segment.style), Style.null())
        bar = colours_of(self.app).style(
            "primary" if self.has_focus or self._driven else "faint", bold=True
        )
        under = Style(bgcolor=ground.bgcolor) + bar
        return Strip.join([Strip([Segment("▌", under)], 1), strip.crop(1)])


class Dialog(ModalScreen[Result]):
    """A box with a title; Esc closes it without an answer.

    Text from files is shown as `rich.text.Text` only, so nothing in it is markup.
    """

    CSS_PATH = "dialogs.tcss"
    #: Small terminals get no gaps.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (72, "-roomy")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-high")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "close")]

    class Worked(Message):
        """Background work has ended; `then` shows its outcome."""

        def __init__(self, then: Callable[[], None]) -> None:
            super().__init__()
            self.then = then

    def __init__(self, title: str) -> None:
        """`title` must be safe to show."""
        super().__init__()
        self._title = title
        self._problem = Static(id="problem", markup=False)
        self._working = False
        self._next: Callable[[], Coroutine[None, None, None]] | None = None

    def compose(self) -> ComposeResult:
        """The box; `body` fills it."""
        box = Vertical(*self.body(), self._problem, self.foot(), classes="box")
        box.border_title = Text(self._title)
        yield box

    def body(self) -> list[Widget]:
        """What is in the box."""
        raise NotImplementedError

    def foot(self) -> Widget:
        """The buttons."""
        raise NotImplementedError

    @property
    def is_working(self) -> bool:
        """Whether background work is running."""
        return self._working

    @property
    def colours(self) -> Colours:
        """Of the present theme."""
        return colours_of(self.app)

    def say(self, problem: str) -> None:
        """Show a problem; an empty one clears it."""
        self._problem.update(Text(one_line(problem, 600)))  # it may contain a raw path
        self._problem.set_class(bool(problem), "-said")

    def failed(self, problem: str) -> None:
        """Show why background work failed."""
        self.say(problem)

    def action_close(self) -> None:
        """Close without an answer."""
        self.dismiss(None)

    # -- work ----------------------------------------------------------------------------

    def work(self, job: Callable[[], Found], then: Callable[[Found], None]) -> None:
        """Do `job` in the background, then `then` here; an error is shown.

        Of several requests made while one is running, only the last is done.
        """

        async def run() -> None:
            try:
                found = await in_thread(job, "look")
            except (UserError, OSError) as error:
                self.post_message(self.Worked(partial(self.failed, str(error))))
            else:
                self.post_message(self.Worked(partial(then, found)))

        if self._working:
            self._next = run
        else:
            self._begin(run)

    def _begin(self, run: Callable[[], Coroutine[None, None, None]]) -> None:
        self._working = True
        self.run_worker(run(), group="looks")

    @on(Worked)
    def _worked(self, message: Worked) -> None:
        self._working = False
        waiting, self._next = self._next, None
        if waiting is not None:
            self._begin(waiting)  # the result is out of date
        elif self.is_running:
            message.then()
