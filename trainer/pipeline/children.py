"""The commands that a pipeline runs as processes of their own.

This process never loads torch: a stage that runs out of memory takes only itself down, and what it
held on a device is free again before the next stage begins. A training outlives the pipeline, which
finds it again by its run directory; every other command ends with the pipeline.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from shared.errors import RunError
from shared.text import one_line


class Child(Protocol):
    """A running command, in a session of its own."""

    @property
    def pid(self) -> int:
        """Its pid, which is also that of its process group."""

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""


#: Starts `trainer ARGUMENTS` with its output appended to a file; `tied`: it ends with this process.
Launch = Callable[[Sequence[str], Path, bool], Child]


def start_child(arguments: Sequence[str], output: Path, tied: bool) -> Child:
    """Start `trainer ARGUMENTS` by this interpreter. Raises RunError when it cannot be started."""
    module = ["trainer.pipeline.tethered", str(os.getpid())] if tied else ["trainer"]
    try:
        with output.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise RunError(
            f"Cannot start trainer {one_line(arguments[0])}: {error.strerror}."
        ) from error


def signal_child(child: Child, number: int, *, group: bool = False) -> None:
    """Send a signal to a child, or to all of its processes; none if it has ended."""
    if child.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if group and os.getpgid(child.pid) == child.pid:
            os.killpg(child.pid, number)
        else:
            os.kill(child.pid, number)


def end_child(child: Child) -> None:
    """Kill a child with all of its processes."""
    signal_child(child, signal.SIGKILL, group=True)
