"""Which checkpoints to prune: a rule or marks, with a preview."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Button, Checkbox, Input, OptionList, Static
from textual.widgets.option_list import Option

from monitor.actions.prune import CheckpointRow, PruneChoice, PrunePreview, counted
from monitor.screens.dialog_box import Check, Choices, Dialog
from monitor.screens.dialogs import ConfirmScreen
from monitor.widgets.cells import fit, number
from shared.checkpoints.prune import Rule
from shared.text import format_bytes

Look = Callable[[Rule, Collection[str]], PrunePreview]


class PruneScreen(Dialog[PruneChoice]):
    """`look` makes the preview in a thread; the choice is returned, not carried out."""

    DEFAULT_CSS = """
    PruneScreen Input { width: 8; margin-right: 3; }
    PruneScreen OptionList { max-height: 10; margin-bottom: 1; }
    PruneScreen #summary { margin-top: 1; }
    PruneScreen.-low OptionList { max-height: 4; }
    PruneScreen.-low OptionList, PruneScreen.-low #summary { margin: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark"),
        Binding("u", "undo", "undo"),
        Binding("E", "empty", "empty the trash"),
    ]

    def __init__(self, label: str, look: Look, marked: Sequence[str] = (), place: str = "") -> None:
        """`label` is safe to show; `marked` are checkpoints marked beforehand.

        `place` says where, as in " on HOST", if that is another host.
        """
        super().__init__(f"Prune {label}")
        self._look, self._place = look, place
        self._marked = dict.fromkeys(marked)
        self._spared: set[str] = set()
        self._preview: PrunePreview | None = None
        self._list = Choices(id="rows")
        self._summary = Static("Looking…", id="summary", markup=False)

    @property
    def goes(self) -> tuple[str, ...]:
        """The checkpoints that the current preview would prune."""
        return self._preview.goes if self._preview else ()

    def body(self) -> list[Widget]:
        """The checkpoints, the rule, and a summary."""
        numbers = [
            Input(
                type="integer",
                valid_empty=True,
                select_on_focus=False,  # keep the digit typed in the list
                max_length=9,
                compact=True,
                id=name,
            )
            for name in ("keep_last", "keep_every", "keep_best")
        ]
        words = [Static(word, markup=False) for word in ("keep last", "every", "best")]
        pairs = [w for pair in zip(words, numbers, strict=True) for w in pair]
        return [
            self._list,
            Horizontal(*pairs, classes="row"),
            Horizontal(
                Check("superseded", id="superseded"),
                Check("corrupt", id="corrupt"),
                classes="row",
            ),
            self._summary,
        ]

    def foot(self) -> Widget:
        """The actions."""
        return Horizontal(
            Button("Prune ⏎", id="prune", compact=True, disabled=True),
            Button("Mark ␣", id="mark", compact=True),
            Button("Undo u", id="undo", compact=True, disabled=True),
            Button("Empty trash E", id="empty", compact=True, disabled=True, classes="-danger"),
            Button("Close", id="close", compact=True),
            classes="buttons",
        )

    def on_mount(self) -> None:
        """Load the preview."""
        self._list.focus()
        self._refresh()

    # -- the rule ------------------------------------------------------------------------

    def _rule(self) -> Rule:
        def value(name: str) -> int | None:
            text = self.query_one(f"#{name}", Input).value.strip()
            return int(text) if text.lstrip("+-").isdecimal() else None

        return Rule(
            value("keep_last"),
            value("keep_every"),
            value("keep_best"),
            tuple(self._marked),
            self.query_one("#superseded", Check).value,
            self.query_one("#corrupt", Check).value,
        )

    @on(Input.Changed)
    @on(Checkbox.Changed)
    def _refresh(self) -> None:
        rule, spared = self._rule(), frozenset(self._spared)
        self.work(lambda: self._look(rule, spared), self._show)

    def _show(self, preview: PrunePreview) -> None:
        self._preview = preview
        shown = self._list.highlighted
        prompts = [self._prompt(row) for row in preview.rows]
        ids = [self._list.get_option_at_index(i).id for i in range(self._list.option_count)]
        if ids == [row.name for row in preview.rows]:
            for place, prompt in enumerate(prompts):
                self._list.replace_option_prompt_at_index(place, prompt)
        else:
            self._list.clear_options()
            pairs = zip(prompts, preview.rows, strict=True)
            self._list.add_options([Option(prompt, row.name) for prompt, row in pairs])
            if preview.rows:
                self._list.highlighted = min(shown or 0, len(preview.rows) - 1)
        self.say(preview.problem)
        lines = [preview.summary(), preview.trash_line()]
        self._summary.update(Text("\n".join(line for line in lines if line)))
        self.query_one("#prune", Button).disabled = not preview.goes or bool(preview.problem)
        nothing = not preview.trash.checkpoints
        self.query_one("#undo", Button).disabled = nothing
        self.query_one("#empty", Button).disabled = nothing and not preview.trash.bytes

    def _prompt(self, row: CheckpointRow) -> Text:
        colours = self.colours
        text = Text(no_wrap=True, overflow="ellipsis")
        sign = "✗" if row.goes else "▪" if row.protected else " "
        colour = "error" if row.goes else "success" if row.protected else "foreground"
        style = colours.style(colour, bold=row.goes)
        text.append(f" {sign} ", style)
        name = 12 if self.has_class("-narrow") else 21
        text.append(fit(row.name, name), style if row.goes else colours.style("foreground"))
        text.append(fit(format_bytes(row.bytes), 10, right=True), colours.style("muted"))
        loss, key = (row.val_loss, "val") if row.val_loss is not None else (row.loss, "loss")
        measured = f"  {key} {number(loss)}" if loss is not None else ""
        text.append(fit(measured, 13), colours.style("muted"))
        text.append(f"  {row.reason}", colours.style("error" if row.goes else "muted"))
        return text

    def failed(self, problem: str) -> None:
        """Show why there is no preview."""
        self._summary.update("")
        super().failed(problem)

    # -- marks ---------------------------------------------------------------------------

    def _row(self) -> CheckpointRow | None:
        place = self._list.highlighted
        if self._preview is None or place is None or place >= len(self._preview.rows):
            return None
        return self._preview.rows[place]

    @on(Button.Pressed, "#mark")
    def action_mark(self) -> None:
        """Mark or unmark the checkpoint under the cursor."""
        row = self._row()
        if row is None:
            return
        if row.protected:
            self.say(f"{row.name} is protected: it is {row.reason}.")
            return
        if row.name in self._spared:
            self._spared.discard(row.name)
        elif row.name in self._marked:
            del self._marked[row.name]
        elif row.goes:
            self._spared.add(row.name)
        else:
            self._marked[row.name] = None
        self._refresh()

    # -- decisions -----------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        """A digit in the list starts the rule; Up in the rule returns to the list."""
        if self._list.has_focus and event.character and event.character in "0123456789":
            event.stop()
            first = self.query_one("#keep_last", Input)
            # At once: `focus` would leave the next digit to the list.
            self.set_focus(first)
            first.value = event.character
            first.cursor_position = 1
        elif isinstance(self.focused, Input) and event.key == "up":
            event.stop()
            self._list.focus()

    @on(Input.Submitted)
    def _to_the_list(self) -> None:
        self._list.focus()

    @on(OptionList.OptionSelected)
    @on(Button.Pressed, "#prune")
    def _prune(self) -> None:
        preview = self._preview
        if preview is None or preview.problem or not preview.goes:
            self.say(
                preview.problem if preview and preview.problem else "Nothing is marked for pruning."
            )
            return
        choice = PruneChoice("prune", preview.goes)
        self._confirm(
            f"Move {counted(preview)} to the trash{self._place}?",
            f"U restores {'it' if len(preview.goes) == 1 else 'them'} until the trash is emptied.",
            choice,
        )

    @on(Button.Pressed, "#undo")
    def action_undo(self) -> None:
        """Restore what was pruned last."""
        if self._preview is not None and self._preview.trash.checkpoints:
            self.dismiss(PruneChoice("undo"))

    @on(Button.Pressed, "#empty")
    def action_empty(self) -> None:
        """Empty the trash."""
        preview = self._preview
        if preview is None or not (preview.trash.checkpoints or preview.trash.bytes):
            return
        self._confirm(
            f"Delete {format_bytes(preview.trash.bytes)} in the trash{self._place} permanently?",
            "This cannot be undone.",
            PruneChoice("empty"),
        )

    def _confirm(self, question: str, consequence: str, choice: PruneChoice) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self.dismiss(choice)

        self.app.push_screen(ConfirmScreen(question, consequence), answered)

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.action_close()
