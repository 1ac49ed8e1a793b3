"""`trainer logs`: the log of a run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import RunError, UserError
from shared.text import many_lines, one_line
from trainer.cli import options

if TYPE_CHECKING:
    from shared.run.directory import RunDirectory
    from shared.run.tail import Tailer

LINES = 20
_LOOK = 0.2  # seconds between looks for more
_HEALTH_EVERY = 1.0  # seconds between looks whether the run has ended


def logs(
    run: options.RunArgument,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the log until the run ends.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines to show.")] = LINES,
) -> int:
    """Show the last lines of a run's log."""
    from shared.run.finding import find_run
    from shared.run.tail import Tailer

    found = find_run(runs_dir, run)
    if not os.access(found.log_path, os.R_OK):
        if found.log_path.exists():
            raise RunError(f"{found.log_path} cannot be read; check its permissions.")
        if not follow:
            raise UserError(f"Run {found.run_id} has no log yet: {found.log_path} is missing.")
    tailer = Tailer(found.log_path)
    if not follow:
        _show(_last(tailer, lines))
        return 0
    with _interrupted() as stop:
        _show(_last(tailer, lines))
        _follow(found, tailer, stop)
    return 0


@contextlib.contextmanager
def _interrupted() -> Iterator[threading.Event]:
    """Ctrl-C sets the event: it is how following ends, so the exit code is 0.

    A KeyboardInterrupt would not do. Raised inside an `exec`, as dataclasses use while a module
    loads, CPython kills the process with SIGINT at its exit even if the exception was caught.
    """
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _last(tailer: Tailer, count: int) -> list[str]:
    """The last lines of the log; the tailer is then at its end."""
    kept: deque[str] = deque(maxlen=count)
    while True:
        chunk = tailer.read()
        kept.extend(_clean(chunk.lines))
        if not chunk.more:
            return list(kept)


def _clean(block: bytes) -> list[str]:
    """Complete lines, safe to show. A progress bar's `\\r` counts as a newline."""
    text = many_lines(block.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n"))
    return text.split("\n")[:-1]


def _show(lines: list[str]) -> None:
    if lines:
        typer.echo("\n".join(lines))


def _follow(run: RunDirectory, tailer: Tailer, stop: threading.Event) -> None:
    """Show new lines until the run has ended, or `stop` is set."""
    looked_at, end = -1e9, ""
    while not stop.is_set():
        # Checked before the last lines are read, so that none is missed.
        if time.monotonic() - looked_at >= _HEALTH_EVERY:
            end, looked_at = _end_of(run), time.monotonic()
        while (chunk := tailer.read()).lines or chunk.more:
            _show(_clean(chunk.lines))
        if end:
            typer.echo(end, err=True)
            return
        stop.wait(_LOOK)


def _end_of(run: RunDirectory) -> str:
    """How the run ended; empty while it is running, queued, or about to be restarted."""
    from shared.control.daemons import care_of, watching
    from shared.ownership.health import observe
    from shared.run.records import RunState

    if not run.path.is_dir():
        return f"{one_line(run.run_id)} no longer exists"
    state = run.read_state() or RunState()
    health = observe(run, state)
    if health.alive or state.status == "queued":
        return ""
    if care_of(watching(run.path.parent), run.run_id) is not None:
        return ""
    reason = f": {one_line(health.reason, 300)}" if health.reason else ""
    return f"{one_line(run.run_id)} has ended, {health.status}{reason}"
