"""Acting: what a person does to runs from the screen. Looking at them is in `monitor.looking`.

An act runs in a thread of its own; the line above the keys says what became true, or why not.
Dialogs, and what only they need, are imported when a key first asks for them: a curve looked
at once a minute should not wait for a form that is filled in once a week.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.message import Message

from monitor.actions.steer import (
    Launcher,
    ask,
    launch,
    resume,
    stop,
    stop_question,
    why_no_request,
    why_not_resumable,
)
from monitor.data.poller import Source
from monitor.data.views import RunView
from monitor.looking import LookingApp
from monitor.settings import SettingsFile
from shared.errors import RunError, UserError
from shared.text import one_line

if TYPE_CHECKING:
    from monitor.actions import export as exporting
    from monitor.actions import order as ordering
    from monitor.actions import upload as uploading
    from monitor.actions.prune import PruneChoice
    from monitor.screens.order_dialog import LineScreen, NoteScreen
    from shared.checkpoints.catalogue import CheckpointInfo
    from shared.hub.settings import UploadSettings

_ASKED = {
    "pause": "pause",
    "resume": "go on",
    "checkpoint": "save a checkpoint",
}


class MonitorApp(LookingApp):
    """Watches the runs that `source` delivers, and acts on them."""

    class ActDone(Message):
        """An act came to its end: `text` says what became true, or why it did not."""

        def __init__(self, text: str, *, ok: bool) -> None:
            super().__init__()
            self.text = text
            self.ok = ok

    class Verified(Message):
        """Every byte of a checkpoint was read: it is `sound`, or it is not."""

        def __init__(self, info: CheckpointInfo, *, sound: bool) -> None:
            super().__init__()
            self.info, self.sound = info, sound

    class UploadDone(Message):
        """An upload is over, however it ended."""

        def __init__(self, job: uploading.UploadJob) -> None:
            super().__init__()
            self.job = job

    def __init__(
        self,
        source: Source,
        runs_dir: Path,
        *,
        selected: str | None = None,
        clock: Callable[[], float] = time.time,
        launcher: Launcher = launch,
        settings: SettingsFile | None = None,
        theme: str = "",
        ascii: bool = False,
    ) -> None:
        super().__init__(
            source,
            runs_dir,
            selected=selected,
            clock=clock,
            settings=settings,
            theme=theme,
            ascii=ascii,
        )
        self._launcher = launcher
        self._starting: set[str] = set()
        self._uploads: dict[str, uploading.UploadJob] = {}  # the last one of each run

    def on_unmount(self) -> None:
        """Uploads are part of this program: what is half sent is not to be seen on the Hub."""
        if not self._uploads:
            return
        from monitor.actions import upload as uploading

        uploading.leave(self._uploads.values())

    # -- steer ---------------------------------------------------------------------------

    def action_pause(self) -> None:
        """Pause the selected run, or let it go on."""
        view = self.selected
        if view is not None:
            self._ask(view, "resume" if view.status == "paused" else "pause")

    def action_checkpoint(self) -> None:
        """Have the selected run save a checkpoint."""
        if self.selected is not None:
            self._ask(self.selected, "checkpoint")

    def action_stop(self) -> None:
        """Stop the selected run, or its start, after a question."""
        from monitor.screens.dialogs import ConfirmScreen

        view = self.selected
        if view is None:
            return
        try:
            asked = stop_question(view)
        except UserError as error:
            self._tell(str(error), "warning")
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._tell(f"Asked {view.label} to stop…")
                self._in_background(lambda: stop(view, give_up=self._leaving.wait))

        self.push_screen(ConfirmScreen(asked.question, asked.consequence), answered)

    def action_resume(self) -> None:
        """Start the selected run again, as a process of its own."""
        view = self.selected
        if view is None:
            return
        reason = why_not_resumable(view)
        if reason:
            self._tell(reason, "warning")
            return
        if view.run_id in self._starting:
            return  # the key was pressed again before the trainer is there
        self._starting.add(view.run_id)
        self._tell(f"Starting {view.label}…")

        def work() -> str:
            try:
                return resume(view, self._launcher, give_up=self._leaving.wait)
            finally:
                self._starting.discard(view.run_id)

        self._in_background(work)

    def _ask(self, view: RunView, action: str) -> None:
        reason = why_no_request(view, action)
        if reason:
            self._tell(reason, "warning")
            return
        self._tell(f"Asked {view.label} to {_ASKED[action]}…")
        self._in_background(lambda: ask(view, action, give_up=self._leaving.wait))

    # -- checkpoints ---------------------------------------------------------------------

    def action_prune(self) -> None:
        """Show what could go, and let it go."""
        from monitor.actions.prune import carry_out, preview_prune
        from monitor.screens.prune_dialog import PruneScreen

        view = self.selected
        if view is None:
            return

        def chosen(choice: PruneChoice | None) -> None:
            if choice is None:
                return
            self._doomed.pop(view.run_id, None)
            self._tell(f"{'Pruning' if choice.act == 'prune' else 'Asking'} {view.label}…")
            self._in_background(lambda: carry_out(view, choice, self._leaving.wait))

        marked = sorted(self._doomed.get(view.run_id, ()))
        screen = PruneScreen(
            view.label, lambda rule, spared: preview_prune(view, rule, spared), marked
        )
        self.push_screen(screen, chosen)

    def action_verify(self) -> None:
        """Read all of the checkpoint under the cursor and compare its checksums."""
        from shared.checkpoints.manifest import verify_folder

        view, detail = self.selected, self._detail
        if view is None:
            return
        found = detail.checkpoints if detail else ()
        info = next(
            (c for c in found if c.name == self._at_checkpoint), found[-1] if found else None
        )
        if info is None:
            self._tell(f"{view.label} has no checkpoint to verify.", "warning")
            return
        self._tell(f"Reading {info.name} of {view.label}…")

        def work() -> str:
            problems = verify_folder(info.path)
            self.post_message(self.Verified(info, sound=not problems))
            if problems:
                raise RunError(one_line(problems[0], 300))
            return f"{info.name} of {view.label} is whole: every checksum holds."

        self._in_background(work)

    @on(Verified)
    def _keep_verified(self, message: Verified) -> None:
        self._verified[message.info.path, message.info.created_at] = message.sound
        self._show()

    def action_upload(self) -> None:
        """Send a checkpoint to the Hub: what was asked is remembered, how far it is can be seen."""
        from monitor.actions import upload as uploading
        from monitor.screens.upload_dialog import UploadScreen

        view = self.selected
        if view is None:
            return
        job = self._uploads.get(view.run_id)
        running = job if job is not None and job.status.running else None
        here = self._at_checkpoint if self._page == "checkpoints" and self._in_page else ""

        def look(checkpoint: str) -> uploading.UploadOffer:
            return uploading.offer(view, checkpoint)

        def begin(
            settings: UploadSettings, files: Iterable[tuple[str, int]]
        ) -> uploading.UploadJob:
            started = uploading.UploadJob(view, settings, files, self._upload_over)
            self._uploads[view.run_id] = started
            started.start()
            return started

        self.push_screen(UploadScreen(view.label, look, begin, checkpoint=here, job=running))

    def _upload_over(self, job: uploading.UploadJob) -> None:
        if not self._leaving.is_set():
            self.post_message(self.UploadDone(job))

    @on(UploadDone)
    def _tell_upload(self, message: UploadDone) -> None:
        status = message.job.status
        colour = {"done": "success", "cancelled": "warning"}.get(status.outcome, "error")
        self._tell(f"{message.job.view.label}: {status.message}", colour)
        self._source.refresh()

    # -- order ---------------------------------------------------------------------------

    def action_tag(self) -> None:
        """Change the tags of the selected run."""
        from monitor.actions import order as ordering
        from monitor.screens.order_dialog import LineScreen

        view = self.selected
        if view is None:
            return
        text = ordering.tags_text(ordering.labels_of(view))
        self._ask_line(
            LineScreen(f"Tags of {view.label}", text, "Words between commas: baseline, lr sweep."),
            lambda typed: ordering.set_tags(view, typed),
        )

    def action_rename(self) -> None:
        """Show the selected run under another name."""
        from monitor.actions import order as ordering
        from monitor.screens.order_dialog import LineScreen
        from shared.library.labels import MAX_NAME

        view = self.selected
        if view is None:
            return
        own = one_line(view.path.name, 120)
        self._ask_line(
            LineScreen(
                f"Name for {view.label}",
                ordering.labels_of(view).name,
                "It is shown by this name; its folder keeps its own.",
                limit=MAX_NAME,
                nothing=own,
            ),
            lambda typed: ordering.set_name(view, typed),
        )

    def action_note(self) -> None:
        """Write about the selected run."""
        from monitor.actions import order as ordering
        from monitor.screens.order_dialog import NoteScreen

        view = self.selected
        if view is not None:
            note = ordering.labels_of(view).note
            self._ask_line(
                NoteScreen(view.label, note), lambda typed: ordering.set_note(view, typed)
            )

    def _ask_line(self, screen: LineScreen | NoteScreen, act: Callable[[str], str]) -> None:
        def typed(text: str | None) -> None:
            if text is not None:
                self._in_background(lambda: act(text))

        self.push_screen(screen, typed)

    def action_archive(self) -> None:
        """Put the selected run out of sight, or bring it back."""
        from monitor.actions import order as ordering

        view = self.selected
        if view is not None:
            wanted = not view.archived
            self._in_background(lambda: ordering.archive([view], archived=wanted))

    def action_delete(self) -> None:
        """Move the selected run, or the marked ones, into the trash."""
        from monitor.actions import order as ordering
        from monitor.screens.order_dialog import DeleteScreen

        views = self._marked_or_selected()
        if not views:
            return
        label = views[0].label if len(views) == 1 else f"{len(views)} runs"

        def confirmed(plan: ordering.DeletePlan | None) -> None:
            if plan is not None:
                self._tell(f"Deleting {label}…")
                self._in_background(lambda: ordering.delete(plan))

        self.push_screen(DeleteScreen(label, lambda: ordering.plan_delete(views)), confirmed)

    def _marked_or_selected(self) -> list[RunView]:
        """The selected run; with it the marked ones, if it is one of those."""
        view = self.selected
        if view is None or self._snapshot is None:
            return []
        if view.run_id not in self._marked:
            return [view]
        return [run for run in self._snapshot.runs if run.run_id in self._marked]

    def action_undo(self) -> None:
        """Look into the trash, and bring back."""
        from monitor.actions import order as ordering
        from monitor.screens.order_dialog import TrashScreen

        view = self.selected

        def chosen(choice: ordering.TrashChoice | None) -> None:
            if choice is not None:
                self._in_background(
                    lambda: ordering.settle_trash(self._runs_dir, view, choice, self._leaving.wait)
                )

        label = view.label if view else ""
        screen = TrashScreen(
            label, lambda: ordering.look_into_trash(self._runs_dir, view), self._clock
        )
        self.push_screen(screen, chosen)

    # -- take along ----------------------------------------------------------------------

    def action_export(self) -> None:
        """Save the chart, the data or the page as a file."""
        from monitor.actions import export as exporting
        from monitor.screens.export_dialog import ExportScreen

        view = self.selected
        if view is None:
            return
        figure = self._figure()

        def chosen(choice: exporting.ExportChoice | None) -> None:
            if choice is not None:
                self._tell(f"Writing {one_line(choice.path)}…")
                self._in_background(lambda: exporting.export(view, choice, figure))

        screen = ExportScreen(view.label, lambda kind: exporting.propose(view, kind, figure))
        self.push_screen(screen, chosen)

    def _figure(self) -> exporting.Figure | None:
        """The chart that is looked at: the focused one, or that under the cursor."""
        from monitor.actions import export as exporting

        scene = (self._pane() or self._loss).scene
        return exporting.figure_of(scene, scene.key) if scene.shown and scene.key else None

    def action_copy_command(self) -> None:
        """Copy what repeats the selected run, through the terminal."""
        from monitor.actions import order as ordering

        view = self.selected
        if view is None:
            return
        try:
            command = ordering.repeat_line(view)
        except (UserError, OSError) as error:
            self._tell(str(error), "error")
            return
        self.copy_to_clipboard(command)
        self._tell(f"Copied: {command}", "success")

    # -- the outcome ---------------------------------------------------------------------

    def _in_background(self, work: Callable[[], str]) -> None:
        """Do `work` in a thread that does not keep us from leaving, and tell its outcome."""

        def run() -> None:
            try:
                text, ok = work(), True
            except (UserError, OSError) as error:
                text, ok = str(error), False
            if text and not self._leaving.is_set():
                self.post_message(self.ActDone(text, ok=ok))

        threading.Thread(target=run, name="act", daemon=True).start()

    @on(ActDone)
    def _act_done(self, message: ActDone) -> None:
        self._tell(message.text, "success" if message.ok else "error")
        self._source.refresh()
