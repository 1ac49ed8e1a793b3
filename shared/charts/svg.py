"""A figure as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape, quoteattr

from shared.charts.drawing import Box, Drawing, Item, Lines, Point, Shape, Text
from shared.charts.figure import Figure
from shared.charts.picture import draw_figure
from shared.text import one_line

_FONT = "DejaVu Sans, Helvetica, Arial, sans-serif"


def draw_svg(figure: Figure) -> bytes:
    """The figure as an SVG file. Text from files is escaped."""
    return write_svg(draw_figure(figure), figure.title)


def write_svg(drawing: Drawing, title: str = "") -> bytes:
    """The drawing as an SVG file; `title` is for screen readers."""
    size = f'width="{drawing.width}" height="{drawing.height}"'
    box = f'viewBox="0 0 {drawing.width} {drawing.height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} {size} font-family="{_FONT}">',
        f"<title>{_safe(one_line(title))}</title>",
        f"<rect {size} fill={quoteattr(drawing.background)}/>",
        *(_item(item) for item in drawing.items),
        "</svg>\n",
    ]
    return "\n".join(lines).encode()


def _item(item: Item) -> str:
    colour = quoteattr(item.colour)
    match item:
        case Box():
            return (
                f'<rect x="{item.x:.1f}" y="{item.y:.1f}" width="{item.width:.1f}" '
                f'height="{item.height:.1f}" fill={colour} fill-opacity="{item.opacity:g}"/>'
            )
        case Lines():
            # A length of zero makes a dot of a point that nothing joins.
            path = "".join(f"M{_points(p)}" + ("h0" if len(p) == 1 else "") for p in item.pieces)
            opacity = f' stroke-opacity="{item.opacity:g}"' if item.opacity < 1 else ""
            return (
                f'<path fill="none" stroke={colour} stroke-width="{item.width:g}"{opacity} '
                f'stroke-linejoin="round" stroke-linecap="round" d="{path}"/>'
            )
        case Shape():
            path = "".join(f"M{_points(p)}Z" for p in item.polygons)
            if not item.note:
                return f'<path fill={colour} d="{path}"/>'
            return f'<path fill={colour} d="{path}"><title>{_safe(item.note)}</title></path>'
        case Text():
            return _text(item, colour)


def _points(points: Sequence[Point]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _text(item: Text, colour: str) -> str:
    attributes: Iterable[str] = (
        f'x="{item.x:.1f}" y="{item.y:.1f}" fill={colour} font-size="{item.size:g}"',
        f'text-anchor="{item.anchor}"' if item.anchor != "start" else "",
        'font-weight="bold"' if item.bold else "",
        f'transform="rotate(-90 {item.x:.1f} {item.y:.1f})"' if item.upright else "",
    )
    return f"<text {' '.join(filter(None, attributes))}>{_safe(item.text)}</text>"


def _safe(text: str) -> str:
    """Escaped, without the two characters beyond `one_line` that XML cannot hold."""
    return escape(text.replace("\ufffe", "").replace("\uffff", ""))
