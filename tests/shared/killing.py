"""Killing a process before each thing it does to the disk, one after another."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: What changes a disk, by the names under which pathlib, shutil and we call it.
CALLS = ("rename", "replace", "unlink", "mkdir", "rmdir", "link", "symlink", "fsync", "write")


def kill_at_each_step(
    place: Path,
    prepare: Callable[[Path], None],
    act: Callable[[Path], object],
    check: Callable[[Path], None],
) -> int:
    """Run `act` on a fresh folder in a process that is killed before its first call, its second…

    `check` looks at what each of them left. Returns how many were killed; the last one, which ended
    by itself, is checked too.
    """
    for count in range(1000):
        folder = place / str(count)
        folder.mkdir(parents=True)
        prepare(folder)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                _arm(count)
                act(folder)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        check(folder)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0, f"it failed, with {count} calls"
            return count
    raise AssertionError("it never ended")


def _arm(count: int) -> None:
    left = count

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return call(*args, **kwargs)

        return counting

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
