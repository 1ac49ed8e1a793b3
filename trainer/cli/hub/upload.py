"""`trainer upload`: upload a checkpoint to the Hugging Face Hub as a model repository."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.text import plural
from trainer.cli import options
from trainer.cli.models import model_options
from trainer.cli.output import LINE_INTERVAL, ask, byte_bar, print_table

if TYPE_CHECKING:
    from shared.hub.settings import UploadProgress, UploadSettings
    from shared.run.directory import RunDirectory

_ASK_REPO = "Repository on the Hub, NAME or OWNER/NAME"
_TOO_LATE = (
    "The upload was interrupted while it was being committed, so it may or may not be in the "
    "repository; run the same command again, which sends nothing twice."
)
_ASK_LICENSE = "License, such as apache-2.0 (empty: none)"


def upload(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="Run id, name or path, latest, RUN:STEP, or a checkpoint."
        ),
    ] = None,
    step: Annotated[
        str,
        typer.Argument(metavar="[STEP|NAME]", help="Step, name, latest or best; default: best."),
    ] = "",
    *,
    checkpoint: model_options.Model = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    repo: Annotated[
        str,
        typer.Option(
            metavar="[OWNER/]NAME", help="Repository; default: the one of the run's last upload."
        ),
    ] = "",
    public: Annotated[
        bool, typer.Option("--public/--private", help="Visibility of the repository.")
    ] = False,
    license_: Annotated[
        str,
        typer.Option(
            "--license", metavar="ID", help="License for the model card, such as apache-2.0."
        ),
    ] = "",
    language: Annotated[
        str, typer.Option(metavar="CODE", help="Language for the model card, such as en.")
    ] = "",
    message: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Commit message; default: the checkpoint's step and loss."
        ),
    ] = "",
    with_optimizer: Annotated[
        bool,
        typer.Option("--with-optimizer", help="Include the optimizer state, to resume training."),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an edited card, or another program's model."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print files and sizes; send nothing.")
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the access token; default: your login."),
    ] = None,
) -> int:
    """Upload a checkpoint to the Hugging Face Hub, with tokenizer and model card.

    Everything is checked before anything is sent, and committed at once at the end. Files the Hub
    already has are not sent again, so an interrupted upload continues where it stopped.
    """
    from shared.hub.settings import UploadSettings

    settings = UploadSettings(
        checkpoint=step,
        repo=repo,
        private=not public,
        license=license_,
        language=language,
        message=message,
        with_optimizer=with_optimizer,
        overwrite=overwrite,
        token_file=token_file,
    )
    source = meant(model_options.model_asked(run, checkpoint, "run"), runs_dir, step)
    if dry_run:
        show_plan(source, settings)
    else:
        send(source, settings)
    return 0


def meant(reference: str, runs_dir: Path, checkpoint: str = "") -> RunDirectory | Path:
    """The run or the checkpoint folder meant. Raises UserError."""
    from shared.errors import UserError
    from shared.text import one_line
    from trainer.checkpoint.references import resolve_reference
    from trainer.cli.checkpoints.place import run_meant

    meant = resolve_reference(reference, runs_dir)
    if meant.checkpoint:
        if checkpoint:
            raise UserError(
                f"{one_line(reference)} is a checkpoint already; leave out "
                f"{one_line(checkpoint)!r}."
            )
        return meant.find()
    return run_meant(reference, runs_dir)


def send(source: RunDirectory | Path, settings: UploadSettings) -> None:
    """Upload with progress shown, asking for the repository on a terminal where none is known."""
    from shared.hub.settings import CANCELLED, UploadCancelledError
    from shared.hub.upload import upload_checkpoint
    from shared.text import one_line

    with _shown() as progress:
        ask = progress.ask if sys.stdin.isatty() else None
        try:
            uploaded = upload_checkpoint(source, settings, progress, ask=ask)
        except KeyboardInterrupt:
            late = progress.stage == "committing"
            raise UploadCancelledError(_TOO_LATE if late else CANCELLED) from None
    typer.echo(one_line(uploaded, 500))
    for note in uploaded.notes:
        typer.echo(note, err=True)


def show_plan(source: RunDirectory | Path, settings: UploadSettings) -> None:
    """Print the files that would be uploaded and where they would go."""
    from shared.hub.upload import plan_upload
    from shared.text import format_bytes, one_line

    plan = plan_upload(source, settings)
    print_table(
        [("file", "bytes", ""), *((one_line(f.name, 60), f"{f.bytes:,}", "") for f in plan.files)],
        numbers=(1,),
    )
    where = plan.repo or "a repository to be named with --repo"
    seen = "private" if plan.private else "public"
    typer.echo(
        f"{one_line(plan.checkpoint.name)}: {plural(len(plan.files), 'file')}, "
        f"{format_bytes(plan.bytes)}, "
        f"to {one_line(where)}, {seen}; nothing was sent"
    )


def _ask(user: str, settings: UploadSettings) -> UploadSettings:
    """Ask for repository and license; the run and the card remember them."""
    from dataclasses import replace

    typer.echo(f"Logged in as {user}.", err=True)
    repo = ask(_ASK_REPO)
    license_ = settings.license or ask(_ASK_LICENSE, default="")
    return replace(settings, repo=repo, license=license_)


# -- progress ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _shown() -> Iterator[_Bars | _Lines]:
    """Show a bar per file on a terminal, log lines otherwise."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    bars = _Bars()
    try:
        yield bars
    finally:
        bars.stop()


class _Lines:
    """Prints a line when a stage begins, every few seconds, and for every wait."""

    def __init__(self) -> None:
        self.stage = ""
        self._last = 0.0

    def ask(self, user: str, settings: UploadSettings) -> UploadSettings:
        return _ask(user, settings)

    def __call__(self, progress: UploadProgress) -> None:
        from shared.text import format_bytes

        now = time.monotonic()
        if progress.stage == "waiting":
            line = progress.note
        elif progress.stage != self.stage:
            line = _STAGES[progress.stage].format(format_bytes(progress.total))
            self.stage = progress.stage
        elif now - self._last >= LINE_INTERVAL and progress.total:
            share = 100 * progress.bytes / progress.total
            line = (
                f"{progress.stage}: {share:.0f} % of {format_bytes(progress.total)}, "
                f"{progress.file} {format_bytes(progress.file_bytes)} of "
                f"{format_bytes(progress.file_total)}"
            )
        else:
            return
        self._last = now
        print(line, file=sys.stderr, flush=True)


_STAGES = {"checking": "checking {}", "sending": "sending {}", "committing": "committing"}


class _Bars:
    """Shows a bar for the current file."""

    def __init__(self) -> None:
        self._progress = byte_bar(sys.stderr)
        self.stage = self._file = ""
        self._task = self._progress.add_task("", total=None, start=False, visible=False)
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def ask(self, user: str, settings: UploadSettings) -> UploadSettings:
        self._progress.stop()
        try:
            return _ask(user, settings)
        finally:
            self._progress.start()

    def __call__(self, progress: UploadProgress) -> None:
        if progress.stage == "waiting":
            self._progress.console.print(progress.note, markup=False)
            return
        if (progress.stage, progress.file) != (self.stage, self._file):
            self.stage, self._file = progress.stage, progress.file
            self._progress.remove_task(self._task)
            self._task = self._progress.add_task(
                f"{progress.stage} {progress.file}".rstrip(), total=progress.file_total or None
            )
        self._progress.update(self._task, completed=progress.file_bytes)
