"""Dialogs for labels, deletion and the trash."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget
from textual.widgets import Button, Input, OptionList, Static, TextArea
from textual.widgets.option_list import Option

from monitor.actions.order import DeletePlan, Trash, TrashChoice
from monitor.screens.dialog_box import Choices, Dialog
from monitor.screens.dialogs import ConfirmScreen
from monitor.widgets.cells import ago, fit
from shared.library.labels import MAX_NOTE
from shared.text import format_bytes, plural

_CHECKPOINTS = "checkpoints"  # the option for a run's pruned checkpoints; runs are numbered


class LineScreen(Dialog[str]):
    """One line of text: tags, or a name. Returned as typed."""

    def __init__(
        self, title: str, value: str, hint: str, *, limit: int = 0, nothing: str = ""
    ) -> None:
        """All texts are safe to show; `nothing` is the placeholder of an empty line."""
        super().__init__(title)
        self._value, self._hint, self._limit, self._nothing = value, hint, limit, nothing

    def body(self) -> list[Widget]:
        """The input and a hint."""
        hint = Static(Text(self._hint, self.colours.style("muted")), markup=False)
        line = Input(
            self._value,
            placeholder=self._nothing,
            max_length=self._limit,
            select_on_focus=False,  # what is typed is added to what is there
            compact=True,
            id="line",
        )
        return [line, Static(classes="gap"), hint]

    def foot(self) -> Widget:
        """Save, or close."""
        return _buttons(Button("Save ⏎", id="save", compact=True))

    def on_mount(self) -> None:
        """Focus the input."""
        self.query_one(Input).focus()

    @on(Input.Submitted)
    @on(Button.Pressed, "#save")
    def _save(self) -> None:
        self.dismiss(self.query_one(Input).value)

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.action_close()


class NoteScreen(Dialog[str]):
    """A few lines of text. Enter starts a new line, so Ctrl-S saves."""

    DEFAULT_CSS = """
    NoteScreen TextArea { height: 10; }
    NoteScreen TextArea:ansi { height: 12; }
    NoteScreen.-low TextArea { height: 7; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "save", "save", priority=True)]

    def __init__(self, label: str, note: str) -> None:
        super().__init__(f"Note on {label}")
        self._note = note

    def body(self) -> list[Widget]:
        """The text."""
        return [TextArea(self._note, compact=True, highlight_cursor_line=False, id="note")]

    def foot(self) -> Widget:
        """Save, or close."""
        return _buttons(Button("Save ctrl+s", id="save", compact=True))

    def on_mount(self) -> None:
        """Focus the text, with the cursor at its end."""
        area = self.query_one(TextArea)
        area.focus()
        area.move_cursor(area.document.end)

    @on(Button.Pressed, "#save")
    def action_save(self) -> None:
        """Close with the text."""
        text = self.query_one(TextArea).text
        if len(text.strip()) > MAX_NOTE:
            self.say(f"A note has at most {MAX_NOTE:,} characters.")
            return
        self.dismiss(text)

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.action_close()


class DeleteScreen(Dialog[DeletePlan]):
    """What deleting means, and a word to type to confirm it.

    `look` makes the plan in a thread; the plan is returned once confirmed.
    """

    DEFAULT_CSS = """
    DeleteScreen #lines { height: auto; max-height: 12; }
    DeleteScreen #question { margin-top: 1; }
    DeleteScreen.-low #lines { max-height: 6; }
    """

    def __init__(self, label: str, look: Callable[[], DeletePlan]) -> None:
        super().__init__(f"Delete {label}")
        self._look = look
        self._plan: DeletePlan | None = None
        self._lines = Static("Looking…", markup=False)
        self._question = Static(id="question", markup=False)
        self._input = Input(compact=True, id="word", disabled=True)

    def body(self) -> list[Widget]:
        """What is deleted, and the input."""
        lines = VerticalScroll(self._lines, id="lines", can_focus=False)
        return [lines, self._question, self._input]

    def foot(self) -> Widget:
        """Delete, or close."""
        return _buttons(
            Button("Delete ⏎", id="delete", compact=True, disabled=True, classes="-danger")
        )

    def on_mount(self) -> None:
        """Load it."""
        self._input.display = False
        self.work(self._look, self._show)

    def _show(self, plan: DeletePlan) -> None:
        self._plan = plan
        colours = self.colours
        text = Text("\n".join(plan.lines), colours.style("foreground"))
        text.append(f"\n\n{plan.summary()}", colours.style("foreground", bold=True))
        text.append(
            "\nHard-linked files are counted once. U restores runs until the trash is emptied.",
            colours.style("muted"),
        )
        self._lines.update(text)
        if plan.refusal:
            self.say(plan.refusal)
            return
        question = Text("Type ")
        question.append(plan.word, colours.style("error", bold=True))
        question.append(" to delete:")
        self._question.update(question)
        self._input.display, self._input.disabled = True, False
        self._input.focus()

    def failed(self, problem: str) -> None:
        """Show why the plan cannot be made."""
        self._lines.update("")
        super().failed(problem)

    @property
    def _confirmed(self) -> bool:
        plan = self._plan
        typed = self._input.value.strip()
        return plan is not None and not plan.refusal and typed == plan.word

    @on(Input.Changed)
    def _typed(self) -> None:
        if self._plan is not None and not self._plan.refusal:
            self.say("")
        self.query_one("#delete", Button).disabled = not self._confirmed

    @on(Input.Submitted)
    @on(Button.Pressed, "#delete")
    def _delete(self) -> None:
        if self._confirmed:
            self.dismiss(self._plan)
        elif self._plan is not None and not self._plan.refusal:
            self.say(f"Type {self._plan.word} to delete it, or press Esc to cancel.")

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.action_close()


class TrashScreen(Dialog[TrashChoice]):
    """What can be restored, and what can be deleted permanently.

    `look` reads the trash in a thread. `label` is the selected run, whose pruned checkpoints
    are offered too.
    """

    DEFAULT_CSS = """
    TrashScreen OptionList { max-height: 12; }
    TrashScreen.-low OptionList { max-height: 6; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("E", "empty", "empty")]

    def __init__(
        self,
        label: str,
        look: Callable[[], Trash],
        clock: Callable[[], float] = time.time,
        place: str = "",
    ) -> None:
        """`place` says where, as in " on HOST", if that is another host."""
        super().__init__(f"Trash{place}")
        self._place = place
        self._label = label
        self._look, self._clock = look, clock
        self._trash: Trash | None = None
        self._list = Choices(id="entries")
        self._line = Static("Looking…", markup=False)

    def body(self) -> list[Widget]:
        """The list and its size."""
        return [self._list, self._line]

    def foot(self) -> Widget:
        """The actions for the entry under the cursor."""
        return _buttons(
            Button("Restore ⏎", id="restore", compact=True, disabled=True),
            Button("Empty E", id="empty", compact=True, disabled=True, classes="-danger"),
        )

    def on_mount(self) -> None:
        """Load it."""
        self._list.focus()
        self.work(self._look, self._show)

    def _show(self, trash: Trash) -> None:
        self._trash = trash
        colours = self.colours
        strong, muted = colours.style("foreground"), colours.style("muted")
        name = 30 if self.has_class("-narrow") else 44
        options: list[Option] = []
        if trash.checkpoints.checkpoints:
            count = trash.checkpoints.checkpoints
            text = Text(no_wrap=True, overflow="ellipsis")
            what = f"{plural(count, 'checkpoint')} of {self._label}"
            text.append(f"  {fit(what, name)}", strong)
            text.append(fit(format_bytes(trash.checkpoints.bytes), 11, right=True), muted)
            options.append(Option(text, _CHECKPOINTS))
        for place, entry in enumerate(trash.runs):
            text = Text(no_wrap=True, overflow="ellipsis")
            text.append(f"  {fit(entry.label, name)}", strong)
            text.append(fit(format_bytes(entry.bytes), 11, right=True), muted)
            age = ago(self._clock() - entry.thrown_at) if entry.thrown_at else "-"
            text.append(f"  {age}", muted)
            options.append(Option(text, str(place)))
        self._list.add_options(options)
        if options:
            self._list.highlighted = 0
        freed = trash.freed + trash.checkpoints.bytes
        empty = trash.empty and not trash.checkpoints.bytes
        told = (
            "The trash is empty." if empty else f"Emptying the trash frees {format_bytes(freed)}."
        )
        self._line.update(Text(f"\n{told}" if options else told, muted))
        self.query_one("#restore", Button).disabled = not options
        self.query_one("#empty", Button).disabled = empty

    def failed(self, problem: str) -> None:
        """Show why the trash cannot be read."""
        self._line.update("")
        super().failed(problem)

    @property
    def _chosen(self) -> str:
        """The option under the cursor; empty if there is none."""
        place = self._list.highlighted
        return "" if place is None else self._list.get_option_at_index(place).id or ""

    @on(OptionList.OptionSelected)
    @on(Button.Pressed, "#restore")
    def _restore(self) -> None:
        chosen = self._chosen
        if chosen == _CHECKPOINTS:
            self.dismiss(TrashChoice("restore_checkpoints"))
        elif chosen and self._trash is not None:
            self.dismiss(TrashChoice("restore_run", self._trash.runs[int(chosen)].run_id))

    @on(Button.Pressed, "#empty")
    def action_empty(self) -> None:
        """Permanently delete everything of the same kind as the entry under the cursor."""
        trash = self._trash
        if trash is None:
            return
        of_run = self._chosen == _CHECKPOINTS or not (trash.runs or trash.freed)
        size = trash.checkpoints.bytes if of_run else trash.freed
        if not size and not self._chosen:
            return
        what = (
            f"the pruned checkpoints of {self._label}"
            if of_run
            else f"all runs in the trash{self._place}"
        )
        choice = TrashChoice("empty_checkpoints" if of_run else "empty_runs")

        def answered(yes: bool | None) -> None:
            if yes:
                self.dismiss(choice)

        question = f"Delete {what} permanently?"
        told = f"This frees {format_bytes(size)} and cannot be undone."
        self.app.push_screen(ConfirmScreen(question, told), answered)

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.action_close()


def _buttons(*buttons: Button) -> Horizontal:
    return Horizontal(*buttons, Button("Close", id="close", compact=True), classes="buttons")
