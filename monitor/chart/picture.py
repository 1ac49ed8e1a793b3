"""A rectangle of characters, each with the names of its colours."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.chart.dots import ASCII, BLANK

Weight = Literal["", "bold", "dim"]


class Ink(NamedTuple):
    """A colour by its name in the theme, and its weight."""

    name: str
    weight: Weight = ""


class Run(NamedTuple):
    """Neighbouring characters of one colour; `ground` is "" if there is none."""

    text: str
    ink: Ink
    ground: str


Piece = tuple[str, Ink]

_SPACE = 32
_TAIL = 0  # the second cell of a wide character
_PLAIN = {
    "│": "|", "┤": "+", "┈": ".", "└": "+", "─": "-", "━": "=", "┬": "+", "┯": "+", "╎": ":",
    "▲": "^", "▼": "v", "▽": "v", "✕": "x", "◆": "*", "★": "*", "●": "o", "…": "~", "┃": "|",
    "╂": "|", "┷": "+", "▾": "v", "▸": ">", "▏": "|",
}  # fmt: skip


class Picture:
    """`height` rows of `width` cells: `characters`, `inks` and `grounds`, all (height, width).

    Characters are code points; inks and grounds are numbers in `palette` and `ground_names`.
    """

    def __init__(self, width: int, height: int) -> None:
        shape = (max(0, height), max(0, width))
        self.characters: NDArray[np.uint32] = np.full(shape, _SPACE, np.uint32)
        self.inks: NDArray[np.uint16] = np.zeros(shape, np.uint16)
        self.grounds: NDArray[np.uint16] = np.zeros(shape, np.uint16)
        self._palette: dict[Ink, int] = {Ink("foreground"): 0}
        self._grounds: dict[str, int] = {"": 0}

    @property
    def width(self) -> int:
        """Cells in a row."""
        return int(self.characters.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.characters.shape[0])

    @property
    def palette(self) -> list[Ink]:
        """The inks by number."""
        return list(self._palette)

    @property
    def ground_names(self) -> list[str]:
        """The background colours by number; 0 is none."""
        return list(self._grounds)

    def ink(self, name: str, weight: Weight = "") -> int:
        """The number of an ink."""
        return self._palette.setdefault(Ink(name, weight), len(self._palette))

    def ground(self, name: str) -> int:
        """The number of a background."""
        return self._grounds.setdefault(name, len(self._grounds))

    def write(self, y: int, x: int, text: str, ink: Ink) -> int:
        """Write `text` into row `y` from cell `x` on, cut at both edges; returns the next cell.

        Characters without width are left out.
        """
        if not text.isascii():
            return self._write_cells(y, x, cells(text), ink)
        start, end = max(0, x), min(self.width, x + len(text))
        if 0 <= y < self.height and start < end:
            shown = text[start - x : end - x].encode("utf-32-le")
            self.characters[y, start:end] = np.frombuffer(shown, np.uint32)
            self.inks[y, start:end] = self.ink(*ink)
        return x + len(text)

    def _write_cells(self, y: int, x: int, found: list[int], ink: Ink) -> int:
        number = self.ink(*ink)
        for i, character in enumerate(found):
            at = x + i
            if not (0 <= y < self.height and 0 <= at < self.width):
                continue
            halved = found[i + 1 : i + 2] == [_TAIL] and at + 1 == self.width
            orphan = character == _TAIL and at == 0
            self.characters[y, at] = _SPACE if halved or orphan else character
            self.inks[y, at] = number
        return x + len(found)

    def write_all(self, y: int, x: int, pieces: Iterable[Piece]) -> int:
        """Write pieces side by side; returns the next cell."""
        for text, ink in pieces:
            x = self.write(y, x, text, ink)
        return x

    def to_ascii(self) -> None:
        """Replace every character that a terminal without Unicode cannot show."""
        found = self.characters
        dotted = (found >= BLANK) & (found < BLANK + 256)
        found[dotted] = ASCII[found[dotted] - BLANK]
        other = found > 126
        for code in np.unique(found[other]):
            found[found == code] = ord(_PLAIN.get(chr(code), "?"))
        found[found == _TAIL] = ord("?")

    def text(self) -> str:
        """The characters alone, a line per row."""
        return "\n".join(self._row_texts())

    def _row_texts(self) -> list[str]:
        shown = np.where(self.characters == BLANK, np.uint32(_SPACE), self.characters)
        whole = shown.astype("<u4").tobytes().decode("utf-32-le", "replace")
        rows = (whole[i : i + self.width] for i in range(0, len(whole), max(1, self.width)))
        return [row.replace("\0", "") for row in rows]

    def rows(self) -> list[list[Run]]:
        """Every row in as few runs as possible: blanks take the ink before them."""
        height, width = self.characters.shape
        if not height or not width:
            return [[] for _ in range(height)]
        shown = np.where(self.characters == BLANK, np.uint32(_SPACE), self.characters)
        inked = shown != _SPACE
        inked[:, 0] = True
        inks = self.inks.astype(np.int32)
        if width > 1:  # leading blanks take the first ink after them
            leading = np.flatnonzero(shown[:, 0] == _SPACE)
            inks[leading, 0] = inks[leading, np.argmax(inked[leading, 1:], axis=1) + 1]
        source = np.maximum.accumulate(np.where(inked, np.arange(width), 0), axis=1)
        keys = np.take_along_axis(inks, source, axis=1) * len(self._grounds) + self.grounds
        changes = keys[:, 1:] != keys[:, :-1]
        whole = shown.astype("<u4").tobytes().decode("utf-32-le", "replace")
        wide = bool((shown == _TAIL).any())
        palette, grounds = self.palette, self.ground_names
        styles = [(ink, ground) for ink in palette for ground in grounds]
        found: list[list[Run]] = []
        at_rows, at_columns = np.nonzero(changes)
        starts = np.searchsorted(at_rows, np.arange(height + 1)).tolist()
        ends = (at_columns + 1).tolist()
        numbers = keys.tolist()
        for y in range(height):
            row, base, start = [], y * width, 0
            for end in (*ends[starts[y] : starts[y + 1]], width):
                text = whole[base + start : base + end]
                row.append(
                    Run(text.replace("\0", "") if wide else text, *styles[numbers[y][start]])
                )
                start = end
            found.append(row)
        return found


def cells(text: str) -> list[int]:
    """The code points of `text`, one per cell: a wide one is followed by 0."""
    found: list[int] = []
    for character in text:
        if unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc", "Zl", "Zp", "Cs"):
            continue
        found.append(ord(character))
        if unicodedata.east_asian_width(character) in "WF":
            found.append(_TAIL)
    return found


def cell_count(text: str) -> int:
    """The number of cells that `text` takes."""
    return len(text) if text.isascii() else len(cells(text))


def clip_middle(text: str, width: int) -> str:
    """`text` in at most `width` cells, cut in the middle: names often differ at their end."""
    if cell_count(text) <= width:
        return text
    head, tail = text[: width // 2], text[len(text) - (width - 1) // 2 :]
    while tail and cell_count(head) + 1 + cell_count(tail) > width:
        head, tail = head[:-1], tail[1:]
    return f"{head}…{tail}"


def clip(text: str, width: int) -> str:
    """`text` in at most `width` cells, cut with an ellipsis."""
    if cell_count(text) <= width:
        return text
    while text and cell_count(text) > width - 1:
        text = text[:-1]
    return text + "…" if width > 0 else ""
