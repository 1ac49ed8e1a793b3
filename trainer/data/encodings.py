"""Text encodings: by their names and byte order marks, and bytes as text, bad ones replaced."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import IO

from shared.errors import UserError
from shared.text import nearest, one_line

READ_BYTES = 256 * 1024
REPLACEMENT = "\ufffd"
DEFAULT = "utf-8"
# fmt: off
_COMMON = (
    "utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "cp1252", "latin-1",
    "iso8859-15", "cp1251", "koi8-r", "cp437", "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr",
    "mac_roman",
)
# fmt: on
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: Names that mean an order of bytes given by a mark; without one it is the usual order.
_MARKED = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}

#: Called with a line's number, its bad sequences, and the error of the first one.
OnBadLine = Callable[[int, int, UnicodeDecodeError], None]


def find_encoding(name: str) -> str:
    """Python's name of an encoding. Raises UserError for one that is unknown or not of text."""
    try:
        found = codecs.lookup(name).name
        sample = "a\n1".encode(found)
        usable = codecs.getincrementaldecoder(found)("replace").decode(sample, True) == "a\n1"
    except (LookupError, ValueError, UnicodeError, TypeError, AssertionError):
        usable = False
    if not usable:
        guess = nearest(name, _COMMON) or f"; some are {', '.join(_COMMON[:7])}"
        raise UserError(f"--encoding {one_line(name, 40)!r} is not a text encoding{guess}")
    return _MARKED.get(found, found)


def mark_of(block: bytes) -> tuple[str, int] | None:
    """The encoding that the byte order mark at the beginning names, and the mark's length."""
    return next(((name, len(mark)) for mark, name in _MARKS if block.startswith(mark)), None)


def unmarked(block: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, by where the zeros are; None if it does not look like it."""
    shares = [block[place::4].count(0) / max(1, len(block[place::4])) for place in range(4)]
    zeros = "".join("0" if share > 0.7 else "." if share < 0.3 else "?" for share in shares)
    names = {".0.0": "utf-16-le", "0.0.": "utf-16-be", ".000": "utf-32-le", "000.": "utf-32-be"}
    return names.get(zeros)


def is_ascii_based(encoding: str) -> bool:
    """Whether ASCII is in it as it is, so that lines can be found in the bytes."""
    ascii_bytes = bytes(range(128))
    return ascii_bytes.decode(encoding, "replace") == ascii_bytes.decode()


def decoded(block: bytes, stream: IO[bytes], encoding: str, bad: OnBadLine) -> Iterator[str]:
    """The text of `block` and the rest of `stream`.

    A sequence of bytes that is not in the encoding becomes U+FFFD, after `bad` was called for its
    line; `bad` may raise.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    while True:
        final = not block
        state = decoder.getstate()
        try:
            text = decoder.decode(block, final)
        except UnicodeDecodeError:
            replacing = codecs.getincrementaldecoder(encoding)("replace")
            replacing.setstate(state)
            text = replacing.decode(block, final)
            data, left = state[0] + block, replacing.getstate()
            for number, count, error in bad_lines(data[: len(data) - len(left[0])], encoding):
                bad(line + number, count, error)
            decoder.reset()
            decoder.setstate(left)
        if text:
            yield text
        if final:
            return
        line += text.count("\n")
        block = stream.read(READ_BYTES)


def bad_lines(data: bytes, encoding: str) -> Iterator[tuple[int, int, UnicodeDecodeError]]:
    """The bad lines of `data`, from 0: number, count of bad sequences, error of the first one."""
    lines = data.split(b"\n") if is_ascii_based(encoding) else [data]
    for number, line in enumerate(lines):
        try:
            line.decode(encoding)
        except UnicodeDecodeError as error:
            kept = line.decode(encoding, "ignore").count(REPLACEMENT)  # that the author wrote
            count = line.decode(encoding, "replace").count(REPLACEMENT) - kept
            before = line[: error.start].decode(encoding, "replace").count("\n")
            yield number + before, count, error


def text_lines(blocks: Iterator[str]) -> Iterator[str]:
    """Lines without their ends, from text in blocks."""
    begun: list[str] = []
    for block in blocks:
        first, *more = block.split("\n")
        begun.append(first)
        for line in more:
            yield "".join(begun)
            begun = [line]
    yield "".join(begun)
