"""A picture as PNG, without a graphics library: pixels in, bytes out."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""Shape (height, width, 3): red, green, blue."""

_MAGIC = b"\x89PNG\r\n\x1a\n"
_UP = 2  # the filter that stores the difference to the row above: charts are flat


def encode_png(pixels: Pixels) -> bytes:
    """The picture as a PNG file."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    flat = pixels.reshape(height, 3 * width)
    rows[:, 0] = _UP
    rows[0, 1:] = flat[0]
    rows[1:, 1:] = flat[1:] - flat[:-1]  # modulo 256, as the format wants it
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        (
            _MAGIC,
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


#: Digits and what numbers need, 5 x 7 dots each, as in the terminals of old.
_FONT = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "3": "01110 10001 00001 00110 00001 10001 01110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
    ".": "00000 00000 00000 00000 00000 01100 01100",
    "-": "00000 00000 00000 11111 00000 00000 00000",
    "+": "00000 00100 00100 11111 00100 00100 00000",
    "e": "00000 00000 01110 10001 11111 10000 01110",
    "k": "10000 10000 10010 10100 11000 10100 10010",
    "M": "10001 11011 10101 10101 10001 10001 10001",
    "B": "11110 10001 10001 11110 10001 10001 11110",
    "T": "11111 00100 00100 00100 00100 00100 00100",
}
GLYPH_WIDTH, GLYPH_HEIGHT = 6, 7  # dots, with the space behind


def draw_number(
    pixels: Pixels, text: str, x: int, y: int, *, color: tuple[int, int, int], scale: int = 2
) -> None:
    """Write a number with its upper left corner at (x, y); what is outside is left out."""
    for place, character in enumerate(text):
        rows = _FONT.get(character)
        if rows is None:
            continue
        for row, dots in enumerate(rows.split()):
            for column, dot in enumerate(dots):
                if dot == "1":
                    left = x + (place * GLYPH_WIDTH + column) * scale
                    top = y + row * scale
                    pixels[max(top, 0) : top + scale, max(left, 0) : left + scale] = color


def number_width(text: str, scale: int = 2) -> int:
    """Pixels that `draw_number` needs."""
    return (len(text) * GLYPH_WIDTH - 1) * scale
