"""A stretch of a file: what one of several readers reads of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Any, cast

from trainer.data.encodings import READ_BYTES
from trainer.data.inputs import InputFile


def open_stretch(file: InputFile) -> IO[bytes]:
    """The bytes from `file.start` to `file.stop`; `tell` counts from the start. Raises OSError."""
    raw = file.path.open("rb")
    if not file.start and file.stop is None:
        return raw
    raw.seek(file.start)
    size = file.size if file.stop is None else file.stop - file.start
    return cast(IO[bytes], io.BufferedReader(_Stretch(raw, size), READ_BYTES))


class _Stretch(io.RawIOBase):
    """The next `size` bytes of `file`."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size
        self._done = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: self._left]
        count = int(self._file.readinto(view)) if len(view) else 0  # type: ignore[attr-defined]
        self._left -= count
        self._done += count
        return count

    def tell(self) -> int:
        return self._done

    def close(self) -> None:
        self._file.close()
        super().close()


def lines_before(path: Path, offset: int) -> int:
    """How many lines of a file end before `offset`. Reads all of them: only for a message."""
    lines = 0
    with path.open("rb") as file:
        while offset > 0 and (block := file.read(min(offset, READ_BYTES))):
            lines += block.count(b"\n")
            offset -= len(block)
    return lines
