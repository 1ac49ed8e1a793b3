"""The records in a `.wandb` file: LevelDB's log format with another checksum.

After a header of 7 bytes come blocks of 32 KiB. A record is one chunk, or several where it crosses
the end of a block: `CRC-32 of type and data, length of the data, type, data`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from zlib import crc32

HEADER = b":W&B\xe1\xbe\x00"
BLOCK = 32 << 10
_CHUNK = struct.Struct("<IHB")
_SIZE = _CHUNK.size
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
#: The kind of a chunk, by whether it is the first and the last of its record.
_KINDS = {(True, True): FULL, (True, False): FIRST, (False, False): MIDDLE, (False, True): LAST}
_TYPE = re.compile(rb"[\x01-\x04]")
_MOST = 64 << 20  # bytes of a record that is believed


class Blocks:
    """Takes records apart into chunks, from the beginning of a file."""

    def __init__(self) -> None:
        self._at = 0

    def add(self, record: bytes) -> bytes:
        """The next bytes of the file, which hold `record`."""
        pieces: list[bytes] = [] if self._at else [HEADER]
        self._at = self._at or len(HEADER)
        rest, first = memoryview(record), True
        while first or rest:
            left = BLOCK - self._at % BLOCK
            if left < _SIZE:
                pieces.append(bytes(left))
                self._at += left
                continue
            part, rest = rest[: left - _SIZE], rest[left - _SIZE :]
            kind = _KINDS[first, not rest]
            checksum = crc32(part, crc32(bytes((kind,))))
            pieces += (_CHUNK.pack(checksum, len(part), kind), bytes(part))
            self._at += _SIZE + len(part)
            first = False
        return b"".join(pieces)


class Records:
    """Puts the records of a growing file together; `damaged` counts those that were lost."""

    def __init__(self) -> None:
        self.damaged = 0
        self._data = b""  # that is not taken apart yet
        self._start = 0  # where it begins in the file
        self._parts: list[bytes] = []
        self._size = 0
        self._lost = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The records that `data`, the next bytes of the file, completes."""
        data = self._data + data if self._data else data
        position = 0
        if self._start == 0:
            if len(data) < len(HEADER) and HEADER.startswith(data):
                self._data = data
                return
            position = len(HEADER)
            if data[:position] != HEADER:
                self._lose()
        while True:
            step = self._chunk(data, position)
            if step is None:
                break
            position, kind, body = step
            record = self._joined(kind, body)
            if record is not None:
                yield record
        position = self._at
        self._data = data[position:]
        self._start += position

    def _chunk(self, data: bytes, position: int) -> tuple[int, int, bytes] | None:
        """The next whole chunk: where it ends, its type and data. None where it is not there yet:
        `_at` is then where to go on.
        """
        while True:
            left = BLOCK - (self._start + position) % BLOCK
            self._at = position
            if left < _SIZE:  # filled with zeros
                position += left
                if position > len(data):
                    return None
                continue
            if _is_whole(data, position, left):
                _, length, kind = _CHUNK.unpack_from(data, position)
                end = position + _SIZE + length
                self._lost = False
                return end, kind, data[position + _SIZE : end]
            found = self._next(data, position + 1, position + left)
            if found is None:
                if position + left > len(data):
                    return None
                if any(data[position : position + left]):  # or nothing was ever written there
                    self._lose()
                found = position + left
            else:
                self._lose()
            position = found

    def _next(self, data: bytes, start: int, block_end: int) -> int | None:
        """The next place in a block where a whole chunk begins."""
        last = min(block_end, len(data))
        for match in _TYPE.finditer(data, start + _SIZE - 1, last):
            position = match.start() - _SIZE + 1
            if _is_whole(data, position, block_end - position):
                return position
        return None

    def _joined(self, kind: int, body: bytes) -> bytes | None:
        if kind in (FULL, FIRST):
            if self._parts:
                self._lose()  # its end is missing
            self._parts, self._size = [], 0
        elif not self._parts:
            return None  # its beginning was lost and counted
        if kind == FULL:
            return body
        self._parts.append(body)
        self._size += len(body)
        if self._size > _MOST:
            self._lose()
            self._parts, self._size = [], 0
        if kind != LAST:
            return None
        record = b"".join(self._parts)
        self._parts, self._size = [], 0
        return record

    def _lose(self) -> None:
        """Count a loss once, however many chunks it takes to find the next record."""
        if not self._lost:
            self.damaged += 1
        self._lost = True
        self._parts, self._size = [], 0


def _is_whole(data: bytes, position: int, left: int) -> bool:
    """Whether a chunk with the right checksum begins there, with `left` bytes left in its block."""
    if len(data) - position < _SIZE:
        return False
    told, length, kind = _CHUNK.unpack_from(data, position)
    end = position + _SIZE + length
    if not FULL <= kind <= LAST or _SIZE + length > left or end > len(data):
        return False
    return bool(told == crc32(data[position + _SIZE - 1 : end]))
