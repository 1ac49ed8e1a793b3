"""Messages between the trainer and the launcher: a JSON header and the bytes that belong to it."""

from __future__ import annotations

import json
import struct
from typing import Any

_SIZES = struct.Struct(">II")
MAX_HEADER = 16 << 20
MAX_BODY = 1 << 30


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    """A message as bytes."""
    text = json.dumps(header).encode()
    return _SIZES.pack(len(text), len(body)) + text + body


def pack_files(files: dict[str, bytes]) -> tuple[list[tuple[str, int]], bytes]:
    """The names and sizes of files, for a header, and their contents in a row, for a body."""
    return [(name, len(data)) for name, data in files.items()], b"".join(files.values())


def unpack_files(sizes: list[tuple[str, int]], body: bytes) -> dict[str, bytes]:
    """What `pack_files` packed."""
    files, at = {}, 0
    for name, size in sizes:
        files[name] = body[at : at + size]
        at += size
    return files


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[dict[str, Any], bytes]]:
        """The messages that `data` completes. Raises ValueError if it is no message."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _SIZES.size:
            header, body = _SIZES.unpack_from(self._buffer)
            if header > MAX_HEADER or body > MAX_BODY:
                raise ValueError(f"a message of {header} and {body} bytes")
            middle, end = _SIZES.size + header, _SIZES.size + header + body
            if len(self._buffer) < end:
                break
            content = json.loads(self._buffer[_SIZES.size : middle])
            messages.append((content, bytes(self._buffer[middle:end])))
            del self._buffer[:end]
        return messages
