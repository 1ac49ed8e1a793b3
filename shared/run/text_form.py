"""The bytes of a metrics log in any usual form, turned into lines of UTF-8.

Other programs write UTF-16, compress with gzip, end lines with CR, or write one JSON array. All of
them become what the trainer writes: one object per line, each line ending in `\\n`. The result does
not depend on how the bytes are cut.
"""

from __future__ import annotations

import codecs
import re
import zlib
from typing import Protocol

from shared.run.tail import MAX_LINE

_OUTPUT = 8 << 20  # bytes decompressed at a time
_PIECE = 64 << 10  # bytes given to the decompressor at a time
_UNDECIDED = 64 << 10  # bytes of white space after which a file counts as plain text
_TOKENS = re.compile(rb'["{}\\]')
#: One array of objects, or objects that are spread over several lines.
_SPREAD = re.compile(rb'\s*(?:\[\s*\{|\{[ \t]*[\r\n]\s*")')
_SPREAD_SO_FAR = re.compile(rb"\s*(?:\[\s*|\{(?:[ \t]*|[ \t]*[\r\n]\s*))?\Z")
_MAGIC = (
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
)
_BOM = b"\xef\xbb\xbf"


class _Engine(Protocol):
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class _Decoder(Protocol):
    def feed(self, data: bytes) -> bytes: ...


class TextForm:
    """Decodes one file, from its first byte on.

    `name` says what the form is, "" for plain lines and while it is not known. `problem` is a
    sentence once the rest of the file cannot be decoded.
    """

    def __init__(self, *, packed: bool = True) -> None:
        self._packed = packed
        self._head: bytes | None = b""
        self._decoder: _Decoder | None = None
        self._gzip: _Gzip | None = None
        self.name = ""
        self.problem = ""

    @property
    def is_plain(self) -> bool:
        """Whether the file is known to be lines that need no decoding."""
        return self._head is None and self._decoder is None and not self.problem

    @property
    def more(self) -> bool:
        """Whether `feed(b"")` would return more."""
        return self._gzip is not None and self._gzip.more

    def feed(self, data: bytes) -> bytes:
        """The text in the next bytes of the file."""
        if self._head is not None:
            self._head += data
            if not self._decide(self._head):
                return b""
            data, self._head = self._head, None
        if self.problem and self._gzip is None:
            return b""
        if self._decoder is not None:
            data = self._decoder.feed(data)
            if self._gzip is not None:
                self.problem = self._gzip.problem
        return data.replace(b"\r", b"\n") if b"\r" in data else data

    def _decide(self, head: bytes) -> bool:
        """Choose the form; False while there are too few bytes to tell."""
        if self._packed:
            if head.startswith(b"\x1f\x8b"):
                self.name, self._gzip = "gzip", _Gzip()
                self._decoder = self._gzip
                return True
            for magic, name in _MAGIC:
                if head.startswith(magic):
                    self.problem = f"the file is compressed with {name}; decompress it"
                    return True
            if any(magic.startswith(head) for magic in (b"\x1f\x8b", *(m for m, _ in _MAGIC))):
                return False
        if (wide := _wide(head)) is None:
            return False
        if wide:
            self.name, self._decoder = wide.upper(), _Wide(wide)
            return True
        if _BOM.startswith(head):
            return False
        text = head.removeprefix(_BOM)
        if _SPREAD.match(text):
            self.name, self._decoder = "JSON over several lines", _Objects()
            return True
        return len(text) > _UNDECIDED or _SPREAD_SO_FAR.match(text) is None


def _wide(head: bytes) -> str | None:
    """`utf-16` or `utf-32`, "" for neither; None while there are too few bytes to tell."""
    if not head:
        return None
    start = head[:4]
    if start[:1] not in (b"\xff", b"\xfe", b"\0", b"{", b"[", b" ", b"\t", b"\r", b"\n"):
        return ""
    if len(start) < 4:
        return None
    zeros = tuple(byte == 0 for byte in start)
    bom = start[:2]
    if start == b"\xff\xfe\0\0" or zeros == (False, True, True, True):
        return "utf-32-le"
    if start == b"\0\0\xfe\xff" or zeros == (True, True, True, False):
        return "utf-32-be"
    if (bom == b"\xff\xfe" and zeros[3]) or zeros == (False, True, False, True):
        return "utf-16-le"
    if (bom == b"\xfe\xff" and zeros[2]) or zeros == (True, False, True, False):
        return "utf-16-be"
    return ""


class _Wide:
    """UTF-16 or UTF-32; what is damaged becomes replacement characters."""

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._inner = TextForm(packed=False)
        self._began = False

    def feed(self, data: bytes) -> bytes:
        text = self._decoder.decode(data)
        if text and not self._began:
            self._began = True
            text = text.removeprefix("\ufeff")
        return self._inner.feed(text.encode())


class _Gzip:
    """One or more members, decompressed a bounded amount at a time."""

    def __init__(self) -> None:
        self._waiting = b""
        self._engine = zlib.decompressobj(31)
        self._full = False
        self._inner = TextForm(packed=False)
        self.problem = ""

    @property
    def more(self) -> bool:
        return self._full and not self.problem

    def feed(self, data: bytes) -> bytes:
        if self.problem:
            return b""
        self._waiting += data
        found: list[bytes] = []
        room = _OUTPUT
        while self._waiting and room and not self.problem:
            piece, rest = self._waiting[:_PIECE], self._waiting[_PIECE:]
            before = self._engine.copy()
            try:
                text = self._engine.decompress(piece, room)
            except zlib.error:
                text = _undamaged(before, piece)
                self.problem = "its gzip data is damaged; what comes after is not read"
            found.append(text)
            room = max(0, room - len(text))
            if self._engine.eof:
                # Some programs pad the end with zeros.
                self._waiting = (self._engine.unused_data + rest).lstrip(b"\0")
                self._engine = zlib.decompressobj(31)
            else:
                self._waiting = self._engine.unconsumed_tail + rest
        self._full = not room
        return self._inner.feed(b"".join(found))


def _undamaged(engine: _Engine, data: bytes) -> bytes:
    """All that can be decompressed of `data`, however it was cut."""
    found = b""
    try:
        for at in range(len(data)):
            found += engine.decompress(data[at : at + 1])
    except zlib.error:
        pass
    return found


class _Objects:
    """The outermost objects of any JSON text, one per line."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._depth = 0
        self._quoted = False
        self._skip = 0

    def feed(self, data: bytes) -> bytes:
        found: list[bytes] = []
        start = 0
        for match in _TOKENS.finditer(data):
            at = match.start()
            if at < self._skip:
                continue
            token = data[at]
            if token == ord("\\"):
                self._skip = at + 2 if self._quoted else 0
            elif token == ord('"'):
                self._quoted = not self._quoted
            elif self._quoted:
                continue
            elif token == ord("{"):
                if not self._depth:
                    start = at
                self._depth += 1
            elif self._depth:
                self._depth -= 1
                if not self._depth:
                    whole = b"".join((*self._pieces, data[start : at + 1]))
                    found.append(whole.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n")
                    self._pieces, self._size = [], 0
        self._skip = max(0, self._skip - len(data))
        if self._depth:
            self._pieces.append(data[start:])
            self._size += len(data) - start
            if self._size > MAX_LINE:
                self._pieces, self._size, self._depth, self._quoted = [], 0, 0, False
        return b"".join(found)
