"""What commands show besides plain lines: tables, JSON, progress bars, questions."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import typer

from shared.errors import UserError
from shared.text import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.progress import Progress

    from trainer.data.progress import Update

LINE_INTERVAL = 5.0  # seconds between log lines where there is no terminal


# -- tables and figures ------------------------------------------------------------------------


def print_table(
    rows: Sequence[Sequence[str]], numbers: Sequence[int] = (), *, drop_empty: bool = False
) -> None:
    """Print rows under their heading; columns `numbers` are aligned right, the last one never.

    `drop_empty` leaves out columns whose cells are all empty.
    """
    if drop_empty:
        kept = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
        numbers = [kept.index(i) for i in numbers if i in kept]
        rows = [[row[i] for i in kept] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if i in numbers and i < len(row) - 1 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())


def print_json(value: Any) -> None:
    """Print `value` as indented JSON; NaN and infinities become null."""
    from shared.json_text import encode_json

    typer.echo(encode_json(value, indent=True).decode())


def loss_cell(value: float | None) -> str:
    """A loss in a table."""
    return "-" if value is None else f"{value:.4f}"


def shorten(text: str, limit: int) -> str:
    """The beginning of `text` in at most `limit` characters."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def shorten_path(text: str, limit: int) -> str:
    """The end of a path in at most `limit` characters: it says more than the beginning."""
    return text if len(text) <= limit else "…" + text[1 - limit :]


# -- progress ----------------------------------------------------------------------------------


@contextlib.contextmanager
def show_progress(
    title: str,
    total: int,
    *,
    stream: IO[str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Update]:
    """A bar with rate and time left on a terminal, a line every few seconds otherwise.

    Yields a function to call with the bytes done so far, of `total`; with a total of 0 only the
    time taken is shown.
    """
    stream = stream or sys.stderr
    if stream.isatty():
        with byte_bar(stream) if total else _timer(stream) as bar:
            task = bar.add_task(title, total=total or None)
            yield lambda done: bar.update(task, completed=done)
        return
    started = last = clock()

    def line(done: int) -> None:
        nonlocal last
        now = clock()
        if now - last >= LINE_INTERVAL:
            last = now
            if not total:
                print(f"{title}: {format_duration(now - started)}", file=stream, flush=True)
                return
            rate = done / max(now - started, 1e-9)
            left = format_duration((total - done) / rate if rate else None)
            share = 100 * done / max(total, 1)
            print(
                f"{title}: {share:.0f} % of {format_bytes(total)}, {rate / 1e6:.1f} MB/s, "
                f"{left} left",
                file=stream,
                flush=True,
            )

    yield line


@contextlib.contextmanager
def progress(title: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """As `show_progress`, but yields a function to call with the bytes done since the last call."""
    from trainer.data.progress import silent

    done = 0
    with (silent if quiet else show_progress)(title, total) as update:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            update(min(done, total))

        yield advance


@contextlib.contextmanager
def show_count(
    title: str,
    total: int,
    noun: str,
    *,
    stream: IO[str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[int], None]]:
    """A bar with the time left on a terminal, a line every few seconds otherwise.

    Yields a function to call with how many of `total` have come since the last call.
    """
    stream = stream or sys.stderr
    if stream.isatty():
        with _count_bar(stream) as bar:
            task = bar.add_task(title, total=total)
            yield lambda count: bar.advance(task, count)
        return
    started = last = clock()
    done = 0

    def line(count: int) -> None:
        nonlocal last, done
        done += count
        now = clock()
        if now - last >= LINE_INTERVAL:
            last = now
            left = format_duration((total - done) * (now - started) / done if done else None)
            print(f"{title}: {done:,} of {total:,} {noun}, {left} left", file=stream, flush=True)

    yield line


def _count_bar(stream: IO[str]) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeLeft(),
    )
    return Progress(*columns, console=Console(file=stream), transient=True)


def _timer(stream: IO[str]) -> Progress:
    """A display of work whose end is not known: its title and the time it has taken."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        SpinnerColumn("line"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(file=stream), transient=True)


def byte_bar(stream: IO[str]) -> Progress:
    """A progress display for bytes, one bar per task, that disappears when it ends."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
    )


# -- questions ---------------------------------------------------------------------------------


def confirm(question: str, *, yes: bool) -> None:
    """Continue only when a person answers y; `yes` answers for them.

    Raises UserError when nobody can answer, typer.Abort when the answer is no.
    """
    if _must_ask(yes):
        typer.confirm(question, abort=True)


def confirm_word(word: str, action: str, *, yes: bool) -> None:
    """Continue only when a person types `word`; otherwise as `confirm`."""
    if _must_ask(yes):
        typed = typer.prompt(f"Type {word} to {action}", default="", show_default=False)
        if typed.strip().lower() != word:
            raise typer.Abort


def _must_ask(yes: bool) -> bool:
    if not yes and not sys.stdin.isatty():
        raise UserError(
            "This needs a confirmation, and standard input is not a terminal: give --yes to go "
            "ahead, or --dry-run to look first."
        )
    return not yes


def ask(question: str, default: str | None = None) -> str:
    """An answer typed on the terminal; the question goes to stderr."""
    if default is None:
        return str(typer.prompt(question, err=True))
    return str(typer.prompt(question, default=default, show_default=bool(default), err=True))
