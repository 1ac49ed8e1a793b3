"""The export dialog: what to write and under which name. It asks before replacing a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.text import Text
from textual import on
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from monitor.actions.export import KINDS, OF_A_RUN, ExportChoice, is_taken, why_not_here
from monitor.screens.dialog_box import Choices, Dialog
from shared.text import one_line


class ExportScreen(Dialog[ExportChoice]):
    """`propose(kind)` gives a file name for a kind of `KINDS` in the current folder."""

    DEFAULT_CSS = """
    ExportScreen OptionList { max-height: 6; }
    ExportScreen .row { margin-top: 1; }
    """

    def __init__(
        self,
        label: str,
        propose: Callable[[str], str],
        *,
        kinds: Sequence[str] = OF_A_RUN,
        folder: Path | None = None,
    ) -> None:
        """`label` is safe to show; `kinds` are those that can be exported."""
        super().__init__(f"Export {label}")
        self._propose = propose
        self._kinds = tuple(kinds)
        self._folder = folder or Path.cwd()
        self._list = Choices(
            *(Option(Text(f"  {KINDS[kind][0]}"), kind) for kind in self._kinds), id="kinds"
        )
        self._input = Input(compact=True, id="path")
        self._proposed = ""
        self._asked: ExportChoice | None = None  # its file exists: Enter again replaces it

    def body(self) -> list[Widget]:
        """The kinds, and the file name."""
        place = Text(f"in {one_line(self._folder)}", self.colours.style("muted"))
        return [
            self._list,
            Horizontal(Static("file", markup=False), self._input, classes="row"),
            Static(place, markup=False),
        ]

    def foot(self) -> Widget:
        """The buttons."""
        return Horizontal(
            Button("Export ⏎", id="export", compact=True),
            Button("Close", id="close", compact=True),
            classes="buttons",
        )

    def on_mount(self) -> None:
        """Focus the list."""
        self._list.focus()
        self._list.highlighted = 0

    @property
    def _kind(self) -> str:
        return self._kinds[self._list.highlighted or 0]

    @on(OptionList.OptionHighlighted)
    def _highlighted(self) -> None:
        # A typed name stays; only its extension follows the kind.
        value = self._input.value
        proposed = self._propose(self._kind)
        if value in ("", self._proposed):
            self._input.value = proposed
        else:
            ends = {end for _, end in KINDS.values()}
            if Path(value).suffix in ends:
                self._input.value = str(Path(value).with_suffix(KINDS[self._kind][1]))
        self._proposed = proposed

    @on(Input.Changed)
    def _changed(self) -> None:
        self._asked = None
        self.say("")

    @on(OptionList.OptionSelected)
    @on(Input.Submitted)
    @on(Button.Pressed, "#export")
    def _export(self) -> None:
        typed = self._input.value.strip()
        try:
            path = self._folder / Path(typed).expanduser()
        except RuntimeError:  # the home of an unknown user
            path = self._folder / typed
        if not typed or "\0" in typed:
            self.say("Type a name for the file.")
            return
        choice = ExportChoice(self._kind, path)
        if self._asked == choice:
            self.dismiss(ExportChoice(choice.kind, choice.path, force=True))
            return

        def looked(found: tuple[str, bool]) -> None:
            problem, taken = found
            if problem or taken:
                self._asked = choice if taken and not problem else None
                shown = one_line(path.name, 100)
                self.say(problem or f"{shown} already exists; Enter again replaces it.")
            else:
                self.dismiss(choice)

        self.work(lambda: (why_not_here(choice), is_taken(choice)), looked)

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.action_close()
