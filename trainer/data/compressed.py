"""Compressed files as streams of their content."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from trainer.data.encodings import READ_BYTES


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


_OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": lambda file: _zstd().ZstdFile(file),
}


def damages() -> tuple[type[Exception], ...]:
    """What is raised for a damaged file, besides OSErrors without a number."""
    return EOFError, zlib.error, lzma.LZMAError, _zstd().ZstdError


def opened(path: Path, raw: IO[bytes], damaged: Callable[[Exception], None] | None) -> IO[bytes]:
    """The content of `raw`, by the extension of `path`.

    With `damaged`, which is told the error, the content ends where the file is damaged.
    """
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        return raw
    content = opener(raw)
    return io.BufferedReader(_UntilDamage(content, damaged) if damaged else content, READ_BYTES)


class _UntilDamage(io.RawIOBase):
    def __init__(self, content: Any, damaged: Callable[[Exception], None]) -> None:
        self._content = content
        self._damaged = damaged
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._ended:
            return 0
        try:
            return int(self._content.readinto(buffer))
        except OSError as error:
            if error.errno is not None:
                raise
            self._end(error)
        except damages() as error:
            self._end(error)
        return 0

    def _end(self, error: Exception) -> None:
        self._ended = True
        self._damaged(error)
