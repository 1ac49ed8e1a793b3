"""How far a long pass over bytes has come: a bar on a terminal, log lines otherwise."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO

from shared.text import format_bytes, format_duration

Update = Callable[[int], None]
"""Called with the bytes done so far."""

ProgressFactory = Callable[[str, int], AbstractContextManager[Update]]
"""Called with a title and the total in bytes."""

LINE_INTERVAL = 5.0  # seconds between log lines


@contextlib.contextmanager
def silent(title: str, total: int) -> Iterator[Update]:
    """No output."""
    yield lambda done: None


@contextlib.contextmanager
def shown(
    title: str,
    total: int,
    *,
    stream: IO[str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Update]:
    """A rich bar with rate and time left on a terminal, a line every few seconds otherwise."""
    stream = stream or sys.stderr
    if stream.isatty():
        with _bar(title, total, stream) as update:
            yield update
        return
    started = last = clock()

    def line(done: int) -> None:
        nonlocal last
        now = clock()
        if now - last >= LINE_INTERVAL:
            last = now
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
def _bar(title: str, total: int, stream: IO[str]) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=stream), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)
