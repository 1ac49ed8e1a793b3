"""Upload of a checkpoint to the Hub: the form, then the progress, then the address."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Button, Checkbox, Input, Select, Static

from monitor.actions.upload import UploadJob, UploadOffer, UploadStatus, settings_from
from monitor.screens.dialog_box import Check, Dialog
from monitor.widgets.cells import Piece, bar, fit
from shared.errors import UserError
from shared.hub.settings import UploadSettings
from shared.text import format_bytes

Look = Callable[[str], UploadOffer]
Begin = Callable[[UploadSettings, Iterable[tuple[str, int]]], UploadJob]
_FRAMES = 0.15  # seconds between updates of the progress
_BAR, _NAME = 18, 26  # cells


class UploadScreen(Dialog[None]):
    """Asks for the repository and follows the upload, which continues when this is closed.

    `look(checkpoint)` makes the offer in a thread; `begin` starts the upload and returns it.
    A running `job` is shown at once.
    """

    DEFAULT_CSS = """
    UploadScreen #form { height: auto; }
    UploadScreen Select { width: 26; height: 1; }
    UploadScreen #files { height: auto; max-height: 9; margin-top: 1; }
    UploadScreen #line { margin-top: 1; }
    UploadScreen.-low #files { max-height: 3; margin: 0; }
    UploadScreen.-low #line { margin: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "copy", "copy the address")]

    def __init__(
        self,
        label: str,
        look: Look,
        begin: Begin,
        *,
        checkpoint: str = "",
        job: UploadJob | None = None,
    ) -> None:
        """`label` is safe to show; `checkpoint` is preselected, by default the best."""
        super().__init__(f"Upload {label}")
        self._look, self._begin_upload = look, begin
        self._checkpoint = checkpoint
        self._job = job
        self._shown: UploadStatus | None = None
        self._offer: UploadOffer | None = None
        self._files = Static(id="list", markup=False)
        self._line = Static("Looking…", id="line", markup=False)

    def body(self) -> list[Widget]:
        """The form, the files, and the status."""
        form = Vertical(
            Horizontal(
                Static("repository", classes="name", markup=False),
                Input(placeholder="NAME or OWNER/NAME", compact=True, id="repo"),
                classes="row",
            ),
            Horizontal(
                Static("checkpoint", classes="name", markup=False),
                Select[str]([], prompt="the best", compact=True, id="checkpoint"),
                classes="row",
            ),
            Horizontal(
                Static("license", classes="name", markup=False),
                Input(
                    placeholder="none, or an SPDX id such as apache-2.0", compact=True, id="license"
                ),
                classes="row",
            ),
            Horizontal(
                Static("", classes="name", markup=False),
                Check("public", id="public"),
                Check("overwrite other content", id="replace"),
                classes="row",
            ),
            id="form",
        )
        return [form, VerticalScroll(self._files, id="files", can_focus=False), self._line]

    def foot(self) -> Widget:
        """The actions; which of them are shown depends on the stage."""
        return Horizontal(
            Button("Upload ⏎", id="upload", compact=True, disabled=True),
            Button("Cancel upload", id="cancel", compact=True, classes="-danger"),
            Button("Try again", id="again", compact=True),
            Button("Copy address y", id="copy", compact=True),
            Button("Close", id="close", compact=True),
            classes="buttons",
        )

    def on_mount(self) -> None:
        """Show the form, or the running upload."""
        self.set_interval(_FRAMES, self._follow)
        if self._job is not None:
            self._arrange()
            return
        self.query_one("#repo", Input).focus()
        self._arrange()
        self._refresh()

    def _arrange(self) -> None:
        """Show the parts of the current stage."""
        status = self._job.status if self._job else None
        asking = status is None
        running = status is not None and status.running
        shown = {
            "#form": asking,
            "#upload": asking,
            "#cancel": running,
            "#again": status is not None and status.outcome in ("failed", "cancelled"),
            "#copy": status is not None and bool(status.url),
        }
        for name, on_ in shown.items():
            self.query_one(name).display = on_
        self.query_one("#close", Button).label = "Hide" if running else "Close"
        # A hidden widget must not keep the focus.
        if not asking:
            order = ("#copy", "#again", "#close")
            self.set_focus(self.query_one(next(n for n in order if self.query_one(n).display)))

    # -- the form ------------------------------------------------------------------------

    def _refresh(self) -> None:
        checkpoint = self._checkpoint
        self.work(lambda: self._look(checkpoint), self._show_offer)

    def _show_offer(self, offer: UploadOffer) -> None:
        first = self._offer is None
        self._offer = offer
        repo = self.query_one("#repo", Input)
        if first:
            if not repo.value:
                repo.value = offer.repo
            if offer.suggested:
                repo.suggester = SuggestFromList([offer.suggested], case_sensitive=False)
                if not offer.repo:
                    repo.placeholder = f"NAME or OWNER/NAME, such as {offer.suggested}"
            choose = self.query_one("#checkpoint", Select)
            with self.prevent(Select.Changed):
                choose.set_options([(name, name) for name in offer.checkpoints])
                if offer.checkpoint in offer.checkpoints:
                    choose.value = offer.checkpoint
        self.say(offer.problem)
        text, muted = Text(no_wrap=True, overflow="ellipsis"), self.colours.style("muted")
        for name, size in offer.files:
            text.append(fit(name, 40), self.colours.style("foreground"))
            text.append(f"{format_bytes(size):>12}\n", muted)
        text.rstrip()
        self._files.update(text)
        seen = "public" if self.query_one("#public", Check).value else "private"
        self._line.update(
            Text("" if offer.problem else f"{offer.summary()}; the repository is {seen}.")
        )
        self.query_one("#upload", Button).disabled = bool(offer.problem)

    def failed(self, problem: str) -> None:
        """Show why there is no offer."""
        self._line.update("")
        super().failed(problem)

    @on(Checkbox.Changed, "#public")
    def _seen(self) -> None:
        if self._offer is not None and self._job is None:
            self._show_offer(self._offer)

    @on(Select.Changed, "#checkpoint")
    def _chosen(self, message: Select.Changed) -> None:
        checkpoint = message.value if isinstance(message.value, str) else ""
        if checkpoint != self._checkpoint and self._job is None and self._offer is not None:
            self._checkpoint = checkpoint
            self._refresh()

    @on(Input.Submitted)
    @on(Button.Pressed, "#upload")
    def _upload(self) -> None:
        if self._offer is None or self._offer.problem or self._job is not None:
            return
        try:
            settings = settings_from(
                repo=self.query_one("#repo", Input).value,
                checkpoint=self._offer.checkpoint,  # the one that was shown
                public=self.query_one("#public", Check).value,
                replace=self.query_one("#replace", Check).value,
                license_=self.query_one("#license", Input).value,
            )
        except UserError as error:
            self.say(str(error))
            return
        self.say("")
        self._follow_job(self._begin_upload(settings, self._offer.files))

    # -- on its way ----------------------------------------------------------------------

    def _follow_job(self, job: UploadJob) -> None:
        self._job, self._shown = job, None
        self._arrange()
        self._follow()

    def _follow(self) -> None:
        job = self._job
        if job is None or job.status is self._shown:
            return
        before, status = self._shown, job.status
        self._shown = status
        if before is None or before.running != status.running:
            self._arrange()
        self._files.update(self._bars(status))
        said = "Cancelling…" if job.cancelling else status.line()
        colour = {"done": "success", "failed": "error", "cancelled": "warning"}.get(
            status.outcome, "foreground"
        )
        text = Text()
        if status.running and status.repo:
            text.append(f"{status.checkpoint} → {status.repo}\n", self.colours.style("muted"))
        text.append(said, self.colours.style(colour))
        self._line.update(text)

    def _bars(self, status: UploadStatus) -> Text:
        colours = self.colours
        text = Text(no_wrap=True, overflow="ellipsis")
        full, rail, muted = (colours.style(n) for n in ("success", "rail", "muted"))
        for file in status.files:
            share = min(1.0, file.done / file.total) if file.total else 1.0
            sign = "✓" if share >= 1 else "·" if not file.done else "↑"
            pieces: list[Piece] = [
                (f"{sign} ", full if share >= 1 else muted),
                (fit(file.name, _NAME), colours.style("foreground")),
                (" ", muted),
                *bar(share, _BAR, full, rail),
                (f"{format_bytes(file.done):>11} of {format_bytes(file.total)}", muted),
            ]
            for piece in pieces:
                text.append(*piece)
            text.append("\n")
        text.rstrip()
        return text

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self._shown = None
            self._follow()

    @on(Button.Pressed, "#again")
    def _again(self) -> None:
        """Return to the form to try again with other settings."""
        job = self._job
        if job is None or job.status.running:
            return
        settings = job.settings
        self._job, self._shown = None, None
        self._arrange()
        self.query_one("#repo", Input).focus()
        if self._offer is not None:
            self._show_offer(self._offer)
            return
        # It was started by a dialog that has been closed.
        self._checkpoint = settings.checkpoint
        self.query_one("#repo", Input).value = settings.repo
        self.query_one("#license", Input).value = settings.license
        self.query_one("#public", Check).value = not settings.private
        self.query_one("#replace", Check).value = settings.overwrite
        self._line.update("Looking…")
        self._refresh()

    @on(Button.Pressed, "#copy")
    def action_copy(self) -> None:
        """Copy the address through the terminal."""
        if self._job is not None and self._job.status.url:
            self.app.copy_to_clipboard(self._job.status.url)
            self._line.update(Text(f"{self._job.status.message}\nAddress copied."))

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.action_close()
