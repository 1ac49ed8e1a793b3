"""Care of checkpoints: prune, verify, upload."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

from textual.message import Message

from monitor.controllers.host import Acts, Host
from monitor.pages.checkpoints import CheckpointsPage
from shared.errors import RunError
from shared.text import one_line

if TYPE_CHECKING:
    from monitor.actions.prune import PruneChoice
    from monitor.actions.upload import UploadJob
    from shared.checkpoints.catalogue import CheckpointInfo
    from shared.hub.settings import UploadSettings


class Verified(Message):
    """Every byte of a checkpoint was read: it is `sound`, or it is not."""

    def __init__(self, info: CheckpointInfo, *, sound: bool) -> None:
        super().__init__()
        self.info, self.sound = info, sound


class UploadDone(Message):
    """An upload is over, however it ended."""

    def __init__(self, job: UploadJob) -> None:
        super().__init__()
        self.job = job


class CheckpointCare:
    """The keys that act on checkpoints; the one under the cursor of `page`, if any."""

    def __init__(self, host: Host, page: CheckpointsPage) -> None:
        self._host, self._page = host, page
        self._uploads: dict[str, UploadJob] = {}  # the last one of each run

    def acts(self) -> Acts:
        """What each of its actions does."""
        return {"prune": self.prune, "verify": self.verify, "upload": self.upload}

    def point_at(self, name: str) -> None:
        """Move the cursor to the checkpoint of this name."""
        self._page.cursor = name
        self._host.look = dataclasses.replace(self._host.look, in_page=True)
        self._host.show_page()

    def prune(self) -> None:
        """Show what could go, and let it go."""
        from monitor.controllers.dialogs import prune_dialog

        host, view = self._host, self._host.selected
        if view is None:
            return
        name = host.deeds.titled(view)

        def chosen(choice: PruneChoice | None) -> None:
            if choice is None:
                return
            self._page.unmark(view.run_id)
            host.tell(f"{'Pruning' if choice.act == 'prune' else 'Asking'} {name}…")
            host.act(lambda: host.deeds.prune(view, choice, host.gone.wait))

        host.open_dialog(prune_dialog(view, host.deeds, self._page.marked(view.run_id)), chosen)

    def verify(self) -> None:
        """Read all of the checkpoint under the cursor and compare its checksums."""
        host, view, detail = self._host, self._host.selected, self._host.detail
        if view is None:
            return
        found = detail.checkpoints if detail else ()
        here = [c for c in found if c.name == self._page.cursor] or found[-1:]
        if not here:
            host.tell(f"{view.label} has no checkpoint to verify.", "warning")
            return
        info = here[0]
        name = host.deeds.titled(view)
        host.tell(f"Reading {info.name} of {name}…")

        def work() -> str:
            problems = host.deeds.verify(view, info.name, host.gone.wait)
            if problems is None:
                return ""
            host.post_message(Verified(info, sound=not problems))
            if problems:
                raise RunError(one_line(problems[0], 300))
            return f"{info.name} of {name} is intact: all checksums match."

        host.act(work)

    def verified(self, message: Verified) -> None:
        """Show what was found."""
        self._page.keep_verified(message.info, sound=message.sound)
        self._host.show_page()

    def upload(self) -> None:
        """Send a checkpoint to the Hub, or show how far the upload under way is."""
        from monitor.actions.upload import UploadJob
        from monitor.controllers.dialogs import upload_dialog

        host, view = self._host, self._host.selected
        if view is None:
            return
        job = self._uploads.get(view.run_id)
        running = job if job is not None and job.status.running else None
        here = self._page.cursor if host.page is self._page and host.look.in_page else ""

        def begin(settings: UploadSettings, files: Iterable[tuple[str, int]]) -> UploadJob:
            upload = host.deeds.upload(view)
            started = UploadJob(view, settings, files, self._upload_over, upload)
            self._uploads[view.run_id] = started
            started.start()
            return started

        host.open_dialog(upload_dialog(view, host.deeds, begin, checkpoint=here, job=running))

    def _upload_over(self, job: UploadJob) -> None:
        if not self._host.gone.is_set():
            self._host.post_message(UploadDone(job))

    def uploaded(self, message: UploadDone) -> None:
        """Say how it ended."""
        status = message.job.status
        colour = {"done": "success", "cancelled": "warning"}.get(status.outcome, "error")
        self._host.tell(f"{message.job.view.label}: {status.message}", colour)
        self._host.refresh_runs()

    def leave(self) -> None:
        """Uploads from here are part of this program: what is half sent must not be on the Hub."""
        if self._uploads and self._host.deeds.uploads_end_with_us:
            from monitor.actions import upload as uploading

            uploading.leave(self._uploads.values())
