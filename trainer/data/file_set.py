"""Files that belong together, replaced together or not at all.

Every file is written to a `.NAME.partial` sibling and made durable before the first one is renamed,
so a full disk leaves the old files. A rename that fails is undone. A process that is killed between
two renames leaves a mixed set, which the sidecars let readers recognize.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import IO

from shared.errors import RunError, UserError
from shared.files import fsync_directory

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def partial_path(path: Path) -> Path:
    """Where `path` is written until it is complete."""
    return path.with_name(f".{path.name}.partial")


class FileSet:
    """Files to replace. Use it as a context manager: what was not committed is removed."""

    def __init__(self) -> None:
        self._files: list[IO[bytes]] = []
        self._opened: dict[Path, IO[bytes]] = {}
        self._partials: list[Path] = []
        self._moves: list[tuple[Path, Path | None]] = []

    def __enter__(self) -> FileSet:
        return self

    def __exit__(self, *_error: object) -> None:
        for partial in self._partials:
            with contextlib.suppress(OSError):
                partial.unlink()
        for file in self._files:
            with contextlib.suppress(OSError):  # closing tries again what did not fit
                file.close()

    def open(self, target: Path) -> IO[bytes]:
        """The file that `target` is written to until it is complete, empty and locked.

        Raises UserError when another process is writing it. A second call gives the same file.
        """
        if target in self._opened:
            return self._opened[target]
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_path(target)
        file = _open_locked(partial)
        self._files.append(file)
        self._opened[target] = file
        self._partials.append(partial)
        return file

    def stage(self, target: Path, data: bytes) -> None:
        """Write `data` durably beside `target`, for `commit` to put in place."""
        file = self.open(target)
        file.write(data)
        self.stage_file(target, file)

    def stage_file(self, target: Path, file: IO[bytes]) -> None:
        """Make `file`, which `open` gave for `target`, durable and ready to put in place."""
        file.flush()
        os.fsync(file.fileno())
        self._moves.append((target, partial_path(target)))

    def stage_opened(self, target: Path, data: bytes = b"") -> None:
        """Make the file that `open` gave for `target` durable, with `data` added, and ready."""
        file = self._opened[target]
        file.write(data)
        self.stage_file(target, file)

    def stage_link(self, link: Path, target: str) -> None:
        """A symlink to `target` (relative), for `commit` to put in place."""
        partial = partial_path(link)
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        partial.symlink_to(target)
        self._partials.append(partial)
        self._moves.append((link, partial))

    def remove(self, target: Path) -> None:
        """Let `commit` remove `target` if it is there."""
        self._moves.append((target, None))

    def commit(self) -> None:
        """Rename everything into place, in the order it was staged. Raises OSError and leaves the
        old files when a rename fails."""
        done: list[tuple[Path, Path | None]] = []
        try:
            for target, partial in self._moves:
                done.append((target, _keep_old(target)))
                if partial is None:
                    target.unlink(missing_ok=True)
                else:
                    partial.replace(target)
                    self._partials.remove(partial)
            for folder in {target.parent for target, _ in self._moves}:
                fsync_directory(folder)
        except BaseException:
            for target, old in reversed(done):
                with contextlib.suppress(OSError):
                    old.replace(target) if old else target.unlink(missing_ok=True)
            raise
        for _, old in done:
            if old is not None:
                with contextlib.suppress(OSError):
                    old.unlink()


def cannot_write(error: OSError, folder: Path, after: str = "") -> UserError:
    """What to raise for files in `folder` that cannot be written: a RunError for a full disk."""
    if error.errno in NO_SPACE:
        return RunError(
            f"no space left in {folder}{after}: the old files are unchanged; free some space "
            "(tokens take about as many bytes as their text) and run again"
        )
    return UserError(f"cannot write {error.filename or folder}: {error.strerror or error}")


def _keep_old(target: Path) -> Path | None:
    """A second name for `target` until everything is in place; None if there is no such file."""
    old = target.with_name(f".{target.name}.old")
    with contextlib.suppress(FileNotFoundError):
        old.unlink()  # left by a killed process
    if not os.path.lexists(target):
        return None
    if target.is_dir() and not target.is_symlink():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    try:
        os.link(target, old, follow_symlinks=False)
    except OSError:  # a filesystem without hard links
        target.replace(old)
    return old


def _open_locked(partial: Path) -> IO[bytes]:
    while True:
        file = partial.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another run may have renamed it between the two calls: then this is its result.
            if partial.stat().st_ino == os.fstat(file.fileno()).st_ino:
                file.truncate(0)  # what a killed run left behind
                return file
        except BlockingIOError as error:
            file.close()
            raise UserError(
                f"another prepare-data is writing {partial.parent}: wait for it, or choose "
                "another --output"
            ) from error
        except FileNotFoundError:
            pass
        file.close()
