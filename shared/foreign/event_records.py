"""The records of TensorBoard's event files, read and written.

A record is `length, CRC of the length, data, CRC of the data`; the CRCs are Castagnoli's, masked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_MOST = 64 << 20  # bytes of a record that is believed
_HEAD = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER, _FOOTER = _HEAD.size, _CRC.size
_SEARCH = 1 << 20  # bytes searched for the next record after a damaged one
_MASK = 0xA282EAD8


def framed(data: bytes) -> bytes:
    """A record that holds `data`."""
    from crc32c import crc32c

    length = _LENGTH.pack(len(data))
    heading, footing = _masked(crc32c(length)), _masked(crc32c(data))
    return b"".join((length, _CRC.pack(heading), data, _CRC.pack(footing)))


class Records:
    """Finds the records of a growing file; `damaged` counts those that were lost."""

    def __init__(self) -> None:
        self.damaged = 0
        self._left = b""  # the beginning of a record that is not whole yet
        self._lost = False  # in the middle of damage that is counted

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The data of the records that `data`, the next bytes of the file, completes."""
        from crc32c import crc32c

        data = self._left + data if self._left else data
        position, size = 0, len(data)
        while size - position >= _HEADER:
            length, told = _HEAD.unpack_from(data, position)
            if length > _MOST or told != _masked(crc32c(data[position : position + 8])):
                found = _next_record(data, position + 1)
                self._lose()
                if found is None:
                    # Not found yet: go on with what may be the beginning of a record.
                    self._lost = True
                    position = max(position + 1, size - _HEADER + 1)
                    break
                position = found
                continue
            start = position + _HEADER
            end = start + length
            if end + _FOOTER > size:
                break
            (crc,) = _CRC.unpack_from(data, end)
            position = end + _FOOTER
            self._lost = False
            body = data[start:end]
            if crc == _masked(crc32c(body)):
                yield body
            else:
                self._lose()
        self._left = data[position:]

    def _lose(self) -> None:
        if not self._lost:
            self.damaged += 1


def _next_record(data: bytes, start: int) -> int | None:
    """The next place whose length has the right CRC."""
    from crc32c import crc32c

    last = min(len(data) - _HEADER, start + _SEARCH)
    for position in range(start, last + 1):
        length, told = _HEAD.unpack_from(data, position)
        if length <= _MOST and told == _masked(crc32c(data[position : position + 8])):
            return position
    return None


def _masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF
