"""A figure as PNG, drawn with Pillow."""

from __future__ import annotations

import io
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from shared.charts.drawing import Box, Drawing, Item, Lines, Shape, Text
from shared.charts.figure import Figure
from shared.charts.picture import draw_figure
from shared.errors import UserError

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

#: Pixels of the PNG for one of the drawing: sharp on dense screens too.
SCALE = 2
_FINE = 2  # dots per pixel and side, averaged in the end: smooth edges
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}
_BOLD = 0.03  # what bold adds around a glyph, in ems: the font has one weight


def draw_png(figure: Figure) -> bytes:
    """The figure as a PNG file: the same drawing as the SVG."""
    return write_png(draw_figure(figure))


def write_png(drawing: Drawing) -> bytes:
    """The drawing as a PNG file, SCALE times as many pixels wide and high."""
    from PIL import Image

    fine = SCALE * _FINE
    image = Image.new("RGB", (drawing.width * fine, drawing.height * fine), drawing.background)
    for item in drawing.items:
        _paint(image, item, fine)
    small = image.reduce(_FINE)
    out = io.BytesIO()
    small.save(out, "PNG")
    return out.getvalue()


def _paint(image: Image.Image, item: Item, fine: int) -> None:
    from PIL import Image, ImageColor, ImageDraw

    if isinstance(item, Text):
        mask, corner = _text_mask(item, fine)
        image.paste(ImageColor.getrgb(item.colour), corner, mask)
    elif isinstance(item, Shape) or item.opacity == 1.0:
        _fill(ImageDraw.Draw(image), item, ImageColor.getrgb(item.colour), fine)
    else:
        # Through a mask: where an item covers itself, it is not painted twice.
        mask = Image.new("L", image.size, 0)
        _fill(ImageDraw.Draw(mask), item, round(255 * item.opacity), fine)
        box = mask.getbbox()
        if box is not None:
            image.paste(ImageColor.getrgb(item.colour), box, mask.crop(box))


def _fill(
    draw: ImageDraw.ImageDraw, item: Box | Lines | Shape, ink: int | tuple[int, ...], fine: int
) -> None:
    """Draw `item` in one ink; a pixel of it is `fine` dots wide."""
    if isinstance(item, Box):
        left, top = round(item.x * fine), round(item.y * fine)
        right, bottom = round((item.x + item.width) * fine), round((item.y + item.height) * fine)
        if right > left and bottom > top:
            draw.rectangle((left, top, right - 1, bottom - 1), fill=ink)
    elif isinstance(item, Shape):
        for polygon in item.polygons:
            draw.polygon([(x * fine, y * fine) for x, y in polygon], fill=ink)
    else:
        half = item.width * fine / 2
        for piece in item.pieces:
            at = [(x * fine, y * fine) for x, y in piece]
            if len(at) > 1:
                draw.line(at, fill=ink, width=max(1, round(2 * half)), joint="curve")
            for x, y in {at[0], at[-1]}:
                draw.ellipse((x - half, y - half, x + half, y + half), fill=ink)


def _text_mask(item: Text, fine: int) -> tuple[Image.Image, tuple[int, int]]:
    """Where the text covers the picture, and the upper left corner of that mask."""
    from PIL import Image, ImageDraw

    text = _drawable(item.text)
    font = _font(item.size * fine)
    stroke = _BOLD * item.size * fine / 2 if item.bold else 0.0
    anchor = _ANCHORS[item.anchor]
    box = font.getbbox(text, anchor=anchor, stroke_width=stroke)
    left, top, right, bottom = (int(box[0]) - 2, int(box[1]) - 2, int(box[2]) + 3, int(box[3]) + 3)
    mask = Image.new("L", (right - left, bottom - top), 0)
    draw = ImageDraw.Draw(mask)
    draw.text((-left, -top), text, 255, font, anchor=anchor, stroke_width=stroke)
    x, y = round(item.x * fine), round(item.y * fine)
    if item.upright:
        # (dx, dy) from the anchor becomes (dy, -dx).
        return mask.transpose(Image.Transpose.ROTATE_90), (x + top, y - right)
    return mask, (x + left, y + top)


@lru_cache(maxsize=16)
def _font(size: float) -> ImageFont.FreeTypeFont:
    """Pillow's own font. Raises UserError if Pillow was built without FreeType."""
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise UserError("Pillow was built without FreeType; install a wheel from PyPI.")
    return font


def _drawable(text: str) -> str:
    """`text` as the font can show it: letters without their accents, boxes for what it lacks."""
    apart = unicodedata.normalize("NFKD", text)
    return "".join(c for c in apart if not unicodedata.combining(c))
