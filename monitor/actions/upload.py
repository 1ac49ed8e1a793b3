"""Upload of a checkpoint to the Hub: the offer, and the job that sends it.

The job has a thread of its own and outlives the dialog that started it. Whoever wants to know how
far it is looks at `status`, a frozen value that is replaced as it goes on.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from monitor.data.views import RunView
from shared.checkpoints.catalogue import list_checkpoints
from shared.errors import UserError
from shared.hub.settings import (
    Progress,
    UploadCancelledError,
    Uploaded,
    UploadProgress,
    UploadSettings,
)
from shared.hub.upload import plan_upload, remembered_repo, upload_checkpoint
from shared.run.directory import RunDirectory, slug
from shared.text import format_bytes, format_duration, one_line, plural

Outcome = Literal["", "done", "failed", "cancelled"]
Upload = Callable[[RunDirectory, UploadSettings, Progress, threading.Event], Uploaded]

_LEAVE = 3.0  # seconds for cancelled uploads to clean up
_SPEED_FROM = 1.0  # seconds of sending before a speed is worth showing
#: Command-line options in messages, and their names in the dialog.
_WORDS = (
    (re.compile(r"give --public"), "mark “public”"),
    (re.compile(r"(or )?give --overwrite"), r"\1mark “overwrite”"),
    (re.compile(r"--overwrite replaces"), "“overwrite” replaces"),
    (re.compile(r" with --repo( OWNER/NAME)?"), ""),
    (re.compile(r"check --repo"), "check the name"),
    (re.compile(r"check --license and --language"), "check the license"),
    (re.compile(r"--license"), "the license"),
    (re.compile(r", or give --token-file FILE"), ""),
)


@dataclass(frozen=True)
class UploadOffer:
    """What would be uploaded, safe to show. `repo` is the last repository, `suggested` a name.

    `checkpoints` are those that could go instead, the newest first; `problem` says why this one
    cannot.
    """

    checkpoint: str
    repo: str
    suggested: str
    files: tuple[tuple[str, int], ...]
    checkpoints: tuple[str, ...]
    problem: str = ""

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)

    def summary(self) -> str:
        """What goes, in a line."""
        count = plural(len(self.files), "file")
        return f"{self.checkpoint}: {count}, {format_bytes(self.bytes)}"


def offer(view: RunView, checkpoint: str = "") -> UploadOffer:
    """What would be uploaded of `view`, by default its best checkpoint. Sends nothing.

    A checkpoint that cannot go is a `problem` of the offer: another may. Raises UserError when
    there is none at all.
    """
    run = RunDirectory(view.path)
    names = [info.name for info in list_checkpoints(run.checkpoints) if info.whole]
    repo, chosen, problem = one_line(remembered_repo(run), 120), checkpoint, ""
    files: tuple[tuple[str, int], ...] = ()
    try:
        plan = plan_upload(run, UploadSettings(checkpoint=checkpoint))
        chosen = plan.checkpoint.name
        files = tuple((one_line(file.name, 80), file.bytes) for file in plan.files)
    except UserError as error:
        if not names:
            raise
        problem = in_words(one_line(error, 500))
    return UploadOffer(
        one_line(chosen, 60), repo, _suggested(view), files, tuple(reversed(names)), problem
    )


def _suggested(view: RunView) -> str:
    """A valid repository name made from the run's name."""
    try:
        name = re.sub(r"[-.]{2,}", "-", slug(view.name))[:96]
    except UserError:
        return ""
    return name.strip("-.")


def settings_from(
    *,
    repo: str,
    checkpoint: str = "",
    public: bool = False,
    replace: bool = False,
    license_: str = "",
) -> UploadSettings:
    """The settings from the form. Raises UserError if the repository is missing."""
    name = repo.strip()
    if not name:
        raise UserError("Type the repository: NAME, or OWNER/NAME.")
    return UploadSettings(
        checkpoint=checkpoint,
        repo=name,
        private=not public,
        overwrite=replace,
        license=license_.strip(),
    )


# -- sending -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileStatus:
    """A file being uploaded: bytes done and in total."""

    name: str
    done: int
    total: int


@dataclass(frozen=True)
class UploadStatus:
    """The progress of an upload, safe to show.

    `stage` is empty before the first word, then `checking`, `sending`, `waiting` or `committing`.
    `outcome` is empty while it runs; `message` says then what has come of it. `seconds` counts
    since the sending began, `sent` the bytes since then.
    """

    repo: str
    checkpoint: str = ""
    stage: str = ""
    files: tuple[FileStatus, ...] = ()
    bytes: int = 0
    total: int = 0
    note: str = ""
    seconds: float = 0.0
    outcome: Outcome = ""
    message: str = ""
    url: str = ""

    @property
    def running(self) -> bool:
        """Whether it is still running."""
        return not self.outcome

    @property
    def fraction(self) -> float | None:
        """The share of the stage's bytes, 0 to 1; None where that is unknown."""
        return min(1.0, self.bytes / self.total) if self.total else None

    def line(self) -> str:
        """A one-line description."""
        if self.outcome:
            return self.message
        if self.stage == "waiting":
            return self.note
        if self.stage == "committing":
            return "All files are uploaded; committing…"
        if self.stage not in ("checking", "sending"):
            return "Asking the Hub…"
        done = f"{format_bytes(self.bytes)} of {format_bytes(self.total)}"
        if self.stage == "checking":
            return f"Checking every byte: {done}"
        speed = self.bytes / self.seconds if self.seconds >= _SPEED_FROM else 0.0
        if speed <= 0:
            return f"Sending: {done}"
        left = format_duration((self.total - self.bytes) / speed)
        return f"Sending: {done}, {format_bytes(speed)}/s, {left} left"


class UploadJob:
    """One upload in a thread of its own, until it is over or cancelled."""

    def __init__(
        self,
        view: RunView,
        settings: UploadSettings,
        files: Iterable[tuple[str, int]] = (),
        done: Callable[[UploadJob], None] = lambda _: None,
        upload: Upload = upload_checkpoint,
    ) -> None:
        """`files` are those of the offer, with their bytes.

        `done` is called from the thread when it is over, whatever came of it.
        """
        self.view = view
        self.settings = settings
        self.files = tuple(files)
        self.status = UploadStatus(
            one_line(settings.repo, 120),
            one_line(settings.checkpoint, 60),
            files=self._untouched(),
        )
        self._done = done
        self._upload = upload
        self._cancel = threading.Event()
        self._sending_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def cancel(self) -> None:
        """Stop it as soon as possible; the repository then shows nothing of it."""
        self._cancel.set()

    @property
    def cancelling(self) -> bool:
        """Whether it is being cancelled."""
        return self._cancel.is_set() and self.status.running

    def join(self, timeout: float) -> None:
        """Wait for its end."""
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def again(self, done: Callable[[UploadJob], None] | None = None) -> UploadJob:
        """A retry with the same settings: files the Hub already has are not sent again."""
        return UploadJob(self.view, self.settings, self.files, done or self._done, self._upload)

    def _run(self) -> None:
        outcome: Outcome
        url = ""
        try:
            run = RunDirectory(self.view.path)
            uploaded = self._upload(run, self.settings, self._told, self._cancel)
            notes = " ".join(one_line(note, 300) for note in uploaded.notes)
            outcome, url = "done", one_line(uploaded.url, 300)
            message = one_line(f"{uploaded}. {in_words(notes)}", 700).rstrip()
        except UploadCancelledError as error:
            outcome, message = "cancelled", one_line(error, 400)
        except UserError as error:
            outcome, message = "failed", in_words(one_line(error, 600))
        except OSError as error:
            outcome, message = "failed", f"The upload failed: {one_line(error, 400)}."
        except Exception as error:  # whatever it is, it must be shown
            outcome, message = "failed", f"The upload failed: {one_line(repr(error), 400)}."
        self.status = dataclasses.replace(
            self.status, outcome=outcome, message=message, url=url, note=""
        )
        self._done(self)

    def _untouched(self) -> tuple[FileStatus, ...]:
        return tuple(FileStatus(name, 0, size) for name, size in self.files)

    def _told(self, progress: UploadProgress) -> None:
        now = time.monotonic()
        if progress.stage == "waiting":
            self.status = dataclasses.replace(
                self.status, stage="waiting", note=one_line(progress.note, 300)
            )
            return
        files = self.status.files
        if progress.stage == "sending" and self._sending_since is None:
            self._sending_since, files = (
                now,
                self._untouched(),
            )  # the files were hashed and are sent now
        if progress.file:
            files = _updated(files, progress)
        self.status = dataclasses.replace(
            self.status,
            stage=progress.stage,
            files=files,
            bytes=progress.bytes,
            total=progress.total,
            note="",
            seconds=now - self._sending_since if self._sending_since is not None else 0.0,
        )


def _updated(files: tuple[FileStatus, ...], progress: UploadProgress) -> tuple[FileStatus, ...]:
    name = one_line(progress.file, 80)
    now = FileStatus(name, progress.file_bytes, progress.file_total)
    if any(file.name == name for file in files):
        return tuple(now if file.name == name else file for file in files)
    return (*files, now)


def in_words(sentence: str) -> str:
    """A message with dialog names instead of command-line options."""
    for pattern, words in _WORDS:
        sentence = pattern.sub(words, sentence)
    return sentence


def leave(jobs: Iterable[UploadJob]) -> None:
    """Cancel running uploads on exit and let them clean up."""
    running = [job for job in jobs if job.status.running]
    for job in running:
        job.cancel()
    deadline = time.monotonic() + _LEAVE
    for job in running:
        job.join(max(0.0, deadline - time.monotonic()))
