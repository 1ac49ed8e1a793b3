"""Frames between a watching program and the host of the runs: bounded, checked, versioned.

This module and `agent` use the standard library only: a host without train-monitor is sent both.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, Callable, Dict, Tuple  # noqa: UP035  runs on Python 3.8 too

#: Both sides say which versions they speak; the newest common one is used.
VERSIONS = (1,)
#: Before it a login shell may have printed anything.
GREETING = b"\x00train-monitor frames follow\n"
#: What a host without train-monitor says when it waits for the agent's program.
WANTS_AGENT = b"\x00train-monitor wants the agent\n"
MAX_NOISE = 256 << 10  # bytes before the greeting
MAX_HEAD = 8 << 20  # bytes of JSON in a frame
MAX_BODY = 1 << 20  # bytes of a file in a frame, as they are in the file
_SMALL = 256  # bytes that are not worth compressing
_FRAME = struct.Struct(">4sBIII")  # mark, whether the body is compressed, sizes, checksum
_MARK = b"TMF1"

Head = Dict[str, Any]  # noqa: UP006
Read = Callable[[int], bytes]


class ProtocolError(Exception):
    """The other side sent something that is no frame."""


def encode_frame(head: Head, body: bytes = b"", level: int = 1) -> bytes:
    """One frame, compressed where that is smaller. Raises ProtocolError if it is too large."""
    text = json.dumps(head, separators=(",", ":")).encode()
    if len(text) > MAX_HEAD or len(body) > MAX_BODY:
        raise ProtocolError("a frame would be larger than allowed")
    packed = zlib.compress(body, level) if len(body) > _SMALL else body
    compressed = len(packed) < len(body)
    sent = packed if compressed else body
    check = zlib.crc32(sent, zlib.crc32(text))
    return _FRAME.pack(_MARK, compressed, len(text), len(sent), check) + text + sent


def read_frame(read: Read) -> Tuple[Head, bytes]:  # noqa: UP006
    """The next frame. `read(n)` returns exactly n bytes, or raises EOFError.

    Raises ProtocolError for anything but a whole, unchanged frame within the limits; nothing larger
    than they allow is ever waited for or held.
    """
    mark, compressed, head_size, body_size, check = _FRAME.unpack(read(_FRAME.size))
    if mark != _MARK or compressed > 1 or head_size > MAX_HEAD or body_size > MAX_BODY:
        raise ProtocolError("what was received is no frame")
    text, sent = read(head_size), read(body_size)
    if zlib.crc32(sent, zlib.crc32(text)) != check:
        raise ProtocolError("a frame was damaged on its way")
    try:
        head = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a frame is not JSON") from error
    if not isinstance(head, dict):
        raise ProtocolError("a frame is no JSON object")
    return head, _unpacked(sent) if compressed else sent


def _unpacked(sent: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        body = unpacking.decompress(sent, MAX_BODY)
    except zlib.error as error:
        raise ProtocolError("a frame cannot be unpacked") from error
    if not unpacking.eof:
        raise ProtocolError("a frame unpacks to more than allowed")
    return body


def common_version(theirs: object) -> int:
    """The newest version that both sides speak. Raises ProtocolError if there is none."""
    named = [v for v in theirs if isinstance(v, int)] if isinstance(theirs, list) else []
    common = [v for v in VERSIONS if v in named]
    if not common:
        raise ProtocolError(
            f"it speaks version {', '.join(map(str, named[:5])) or 'none'} of the protocol, "
            f"this program {', '.join(map(str, VERSIONS))}; install the same train-monitor on both"
        )
    return max(common)
