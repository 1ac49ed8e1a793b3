"""Other tools' SQLite databases, opened read-only for each look: they may be locked or replaced."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from shared.files import open_file
from shared.foreign.files_below import Seen, seen_at

MAGIC = b"SQLite format 3\0"
_WAIT = 0.2  # seconds for a lock
_PATIENCE = 5.0  # seconds for all queries of a look: a view may have no end
_STEPS = 50_000  # of SQLite's machine between two looks at the clock
Rows = list[tuple[Any, ...]]


class UnreadableError(Exception):
    """A database cannot be read now; the text says why, in a sentence without its full stop."""


class Database:
    """An open database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """What a query gives. Raises sqlite3.Error."""
        return self._connection.execute(sql, values).fetchall()

    def columns(self, table: str) -> frozenset[str]:
        """The columns of a table; none where there is no such table."""
        return frozenset(row[1] for row in self.rows(f"PRAGMA table_info({table})"))

    def is_indexed(self, table: str, column: str) -> bool:
        """Whether an index of the table begins with this column."""
        names = [row[1] for row in self.rows(f"PRAGMA index_list({table})")]
        firsts = (self.rows("SELECT name FROM pragma_index_info(?)", (name,)) for name in names)
        return any(found and found[0][0] == column for found in firsts)


@contextmanager
def reading(path: Path) -> Iterator[Database]:
    """Open a database for a moment. Raises UnreadableError, also for what fails in the block."""
    try:
        path.stat()
        uri = f"file:{quote(str(path.absolute()))}?mode=ro"
        connection = sqlite3.connect(uri, timeout=_WAIT, uri=True)
        try:
            connection.text_factory = _text
            deadline = time.monotonic() + _PATIENCE
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
            yield Database(connection)
        finally:
            connection.close()
    except (sqlite3.Error, OverflowError, ValueError) as error:
        raise UnreadableError(f"{path.name} cannot be read: {error}") from error
    except OSError as error:
        raise UnreadableError(f"{path.name} cannot be read: {error.strerror}") from error


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def is_database(path: Path) -> bool:
    """Whether a file is an SQLite database."""
    try:
        with open_file(path) as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def watched(path: Path) -> tuple[tuple[Path, Seen], ...]:
    """What changes when something is written to it."""
    return tuple((one, seen_at(one)) for one in (path, _log_of(path)))


def written_at(path: Path) -> float:
    """When it or its write-ahead log was written last. Raises OSError."""
    times = [path.stat().st_mtime]
    with contextlib.suppress(OSError):
        times.append(_log_of(path).stat().st_mtime)
    return max(times)


def _log_of(path: Path) -> Path:
    """Where its write-ahead log is, if it has one."""
    return path.with_name(f"{path.name}-wal")


def identity(path: Path) -> tuple[int, int] | None:
    """Tells a file from another one that has taken its place."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
