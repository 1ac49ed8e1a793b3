"""Folders that a person asked for: complete or absent, replaced only on request."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.errors import RunError, UserError
from shared.files import fsync_directory
from shared.output_file import check_permission, exists_already
from shared.temporaries import put_folder, temporary_folder
from shared.text import one_line


@dataclass(frozen=True)
class Target:
    """A folder to be made in `parent`. One that is there is replaced with `force`, if everything
    in it `is_ours`.
    """

    parent: Path
    name: str
    is_ours: Callable[[str], bool]
    force: bool = False

    @property
    def path(self) -> Path:
        """The folder."""
        return self.parent / self.name

    def check(self) -> None:
        """Raise UserError when it cannot be made."""
        try:
            if os.path.lexists(self.path):
                self._check_replaceable()
            there = next(p for p in (self.parent, *self.parent.absolute().parents) if p.exists())
            if not there.is_dir():
                raise UserError(f"{one_line(there)} is not a folder; name another.")
            check_permission(there, self.path)
        except OSError as error:
            raise UserError(
                f"{one_line(self.path)} cannot be written: {error.strerror}."
            ) from error

    def _check_replaceable(self) -> None:
        if not self.force:
            raise exists_already(self.path)
        there = self.path
        if there.is_symlink() or not there.is_dir() or not all(map(self.is_ours, _names(there))):
            raise UserError(
                f"{one_line(there)} holds something else, which --force does not replace; "
                "name another folder."
            )

    @contextlib.contextmanager
    def filled(self) -> Iterator[Path]:
        """An empty folder that becomes this one at the end. Raises UserError or RunError."""
        self.check()
        made: list[Path] = []
        try:
            made = _make(self.parent)
            with temporary_folder(self.path) as place:
                yield place
                fsync_directory(place)
                self._put(place)
            fsync_directory(self.parent)
        except OSError as error:
            raise RunError(f"Cannot write {one_line(self.path)}: {error.strerror}.") from error
        finally:
            for folder in made:  # those that stayed empty
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def _put(self, place: Path) -> None:
        if self.force:
            put_folder(place, self.path)
            return
        try:
            if os.path.lexists(self.path):
                raise exists_already(self.path)
            place.rename(self.path)
        except OSError as error:  # made while we wrote
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise exists_already(self.path) from error
            raise


def _names(folder: Path) -> list[str]:
    """What is in a folder and those below it, as paths from there; folders end in `/`."""
    found: list[str] = []
    for path, folders, files in os.walk(folder):
        place = Path(path).relative_to(folder)
        found += [f"{place / name}/" for name in folders]
        found += [str(place / name) for name in files]
    return found


def _make(folder: Path) -> list[Path]:
    """Make a folder; returns those that were not there, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing
