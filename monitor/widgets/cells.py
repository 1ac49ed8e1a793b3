"""Text in columns, counted in terminal cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from shared.charts.labels import number as number  # noqa: PLC0414

Piece = tuple[str, Style]


def fit(text: str, width: int, *, right: bool = False) -> str:
    """`text` in exactly `width` cells, cut with an ellipsis."""
    if width <= 0:
        return ""
    size = cell_len(text)
    if size > width:
        return set_cell_size(text, width - 1) + "…"
    padding = " " * (width - size)
    return padding + text if right else text + padding


def fit_middle(text: str, width: int) -> str:
    """`text` in at most `width` cells, cut in the middle: names often differ at their end."""
    if cell_len(text) <= width:
        return text
    if width <= 3:
        return fit(text, width)
    head = set_cell_size(text, (width - 1) - (width - 1) // 2).rstrip()
    tail = ""
    for character in reversed(text):
        if cell_len(head) + 1 + cell_len(tail) + cell_len(character) > width:
            break
        tail = character + tail
    return f"{head}…{tail}"


def line(pieces: Iterable[Piece], width: int, base: Style) -> Strip:
    """Pieces side by side on the background `base`, cut or filled to `width` cells."""
    segments: list[Segment] = []
    left = width
    for text, style in pieces:
        if left <= 0:
            break
        shown = text if cell_len(text) <= left else fit(text, left)
        if shown:
            segments.append(Segment(shown, base + style))
        left -= cell_len(shown)
    if left > 0:
        segments.append(Segment(" " * left, base))
    return Strip(segments, width)


def spread(left: Sequence[Piece], right: Sequence[Piece], width: int, base: Style) -> Strip:
    """`left` and `right` at the two ends of a line; `right` is dropped if both do not fit."""
    size = sum(cell_len(t) for t, _ in left)
    other = sum(cell_len(t) for t, _ in right)
    if size + other + 1 > width:
        return line(left, width, base)
    gap = (" " * (width - size - other), Style.null())
    return line([*left, gap, *right], width, base)


def bar(fraction: float | None, width: int, full: Style, rail: Style) -> list[Piece]:
    """A progress bar of `width` cells, in eighths of a cell."""
    if fraction is None:
        return [("─" * width, rail)]
    done = round(fraction * width * 2)
    halves = "╸" if done % 2 else ""
    whole = "━" * (done // 2)
    return [(whole + halves, full), ("━" * (width - done // 2 - len(halves)), rail)]


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` cells, broken between words where there are any."""
    lines: list[str] = []
    for part in text.split("\n"):
        rest = part
        while cell_len(rest) > width > 0:
            room = max(1, len(set_cell_size(rest, width).rstrip()) or 1)
            cut = rest.rfind(" ", room // 2, room + 1)
            cut = room if cut < 0 else cut
            lines.append(rest[:cut].rstrip())
            rest = rest[cut:].lstrip()
        lines.append(rest)
    return lines


def thousands(value: int) -> str:
    """A count with separators."""
    return f"{value:,}"


def short_step(step: int) -> str:
    """The shortest exact form of a step: 800, 12.5k, 3M."""
    for bound, suffix in ((10**9, "B"), (10**6, "M"), (10**4, "k")):
        if step >= bound:
            unit = 1000 if suffix == "k" else bound
            text = f"{step / unit:.3f}".rstrip("0").rstrip(".")
            return text + suffix if len(text) <= 6 else thousands(step)
    return str(step)


def ago(seconds: float | None) -> str:
    """An age in its largest unit, which rarely changes, so the line is rarely redrawn."""
    if seconds is None:
        return "-"
    if seconds < 5:
        return "now"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds // 5 * 5)}s"
