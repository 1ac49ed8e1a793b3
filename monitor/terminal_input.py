"""What a terminal sends, as messages of the app: any bytes at all, and never an error.

Textual decodes its input as strict UTF-8 and lets its parser raise, either of which ends the app.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator

from textual import events
from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.message import Message
from textual.messages import InBandWindowResize

from shared.text import many_lines

_X10 = "\x1b[M"  # a mouse report in the old encoding: three bytes follow
_X10_BYTES = 3
_X10_ZERO = 32  # added to each of them
_X10_RELEASE = 3  # of any button
_WHEEL_OR_MOVE = 0b110_0000
_UNPRINTABLE = re.compile("[\ud800-\udfff]")


class Decoder:
    """Bytes in, text out, in any pieces.

    What is not UTF-8 becomes U+FFFD. A mouse report in the old encoding, whose bytes beyond column
    95 are not UTF-8, is written in the new one.
    """

    def __init__(self) -> None:
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._begun = ""  # as much of `_X10` as has come
        self._report: bytearray | None = None

    def feed(self, data: bytes) -> str:
        """The text of the next bytes."""
        found: list[str] = []
        text_from = 0
        for i, byte in enumerate(data):
            if self._report is not None and byte < _X10_ZERO:
                # No report: pasted text, say, whose end must not be taken for a part of one.
                found.append("M" + self._report.decode("utf-8", "replace"))
                self._report, text_from = None, i
            if self._report is not None:
                self._report.append(byte)
                text_from = i + 1
                if len(self._report) == _X10_BYTES:
                    found.append(_in_new_encoding(self._report))
                    self._report = None
                continue
            self._begun += chr(byte)
            if not _X10.startswith(self._begun):
                self._begun = "\x1b" if byte == 0x1B else ""
            elif self._begun == _X10:
                # Its first two bytes have been passed on: the new encoding begins alike.
                found.append(self._decode(data[text_from:i]))
                self._begun, self._report, text_from = "", bytearray(), i + 1
        found.append(self._decode(data[text_from:]))
        return "".join(found)


def _in_new_encoding(report: bytearray) -> str:
    """What follows `ESC [` in an SGR mouse report."""
    button, x, y = (max(0, byte - _X10_ZERO) for byte in report)
    released = button & _X10_RELEASE == _X10_RELEASE and not button & _WHEEL_OR_MOVE
    if released:
        button &= ~_X10_RELEASE
    return f"<{button};{max(1, x)};{max(1, y)}{'m' if released else 'M'}"


class TerminalInput:
    """Bytes in, messages out. What makes no sense is left out."""

    def __init__(self, parser: Callable[[], XTermParser] = XTermParser) -> None:
        self._new_parser = parser
        self._parser = parser()
        self._decoder = Decoder()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages of the next bytes."""
        for character in self._decoder.feed(data):  # one by one: an error costs one sequence
            yield from self._guarded(lambda c=character: self._parser.feed(c))  # type: ignore[misc]

    def tick(self) -> Iterator[Message]:
        """What has waited for more that did not come, such as an Escape by itself."""
        yield from self._guarded(self._parser.tick)

    def close(self) -> None:
        """The end of the input."""
        for _ in self._guarded(lambda: self._parser.feed("")):
            pass

    def _guarded(self, parse: Callable[[], Iterable[Message]]) -> Iterator[Message]:
        found: list[Message] = []
        try:
            found.extend(parse())
        except (ParseError, ArithmeticError, ValueError, LookupError, TypeError, StopIteration,
                RuntimeError, RecursionError):  # fmt: skip
            self._parser = self._new_parser()  # the old one is finished
        for message in found:
            if (usable := _usable(message)) is not None:
                yield usable


def _usable(message: Message) -> Message | None:
    """`message` if it may reach a widget; cleaned, or None if not."""
    if isinstance(message, (events.Resize, InBandWindowResize)):
        # Sizes come from the kernel: one that is typed or pasted could have any number of cells.
        return None
    if isinstance(message, events.Paste):
        message.text = many_lines(message.text)
    if isinstance(message, events.Key) and _UNPRINTABLE.search(message.character or ""):
        return None
    return message
