"""SVG and PNG show the same: the same drawing, and on a coarse look the same pixels."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from xml.etree import ElementTree

import cairosvg
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from PIL import Image

from shared.charts.drawing import Text
from shared.charts.figure import Figure
from shared.charts.marks import SIGNS, Mark
from shared.charts.phases import Band
from shared.charts.picture import HEIGHT, WIDTH, draw_figure
from shared.charts.png import SCALE, draw_png, write_png
from shared.charts.svg import draw_svg, write_svg
from tests.shared.charts.making import curve, figure, figures
from tests.shared.charts.test_picture import box_of, texts

NAN = float("nan")


def pixels(data: bytes, tile: int) -> NDArray[np.float64]:
    """The picture as the mean colours of its tiles, shape (rows, columns, 3)."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    small = image.resize((WIDTH // tile, HEIGHT // tile), Image.Resampling.BOX)
    return np.asarray(small).astype(np.float64)


def rich_figure(**fields: object) -> Figure:
    """A figure with all there can be."""
    noise = np.random.default_rng(4).normal(0, 0.1, 20_000)
    values = 1.5 + 3 * np.exp(-np.arange(20_000) / 4000) + noise
    values[7000], values[12_000:12_100] = 6.0, NAN
    val = 1.6 + 3 * np.exp(-np.arange(20) / 4)
    shown = {
        "bands": [Band(0, "phase-warmup", "warmup"), Band(4000, "phase-full", "full")],
        "marks": [Mark(i * 1000 + 500, one) for i, one in enumerate(SIGNS.values())],
        "smoothing": 0.99,
        **fields,
    }
    return figure(
        curve(values, weight=0.99), curve(val, "val", label="val_loss", stride=1000), **shown
    )


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_a_coarse_look_at_both_is_the_same(log: bool, whole: bool) -> None:
    drawing = draw_figure(rich_figure(log_y=log, whole=whole))
    # Without text: which fonts draw the SVG's depends on the machine.
    items = tuple(item for item in drawing.items if not isinstance(item, Text))
    drawing = dataclasses.replace(drawing, items=items)
    raster = cairosvg.svg2png(bytestring=write_svg(drawing), scale=SCALE)
    svg, png = pixels(raster, 10), pixels(write_png(drawing), 10)
    differ = np.abs(svg - png).max(axis=2)
    assert np.mean(differ > 8) < 0.02
    assert np.mean(differ > 40) < 0.002
    plain = pixels(draw_png(figure(curve([1.0, 1.0]))), 10)
    assert np.abs(png - plain).max(axis=2).mean() > 12, "the look is fine enough to see a curve"


@pytest.mark.slow
def test_text_is_at_the_same_places_in_both() -> None:
    """Where the SVG has letters the PNG has ink, and nowhere else."""
    drawing = draw_figure(rich_figure())
    items = tuple(item for item in drawing.items if isinstance(item, Text))
    for item in items:
        alone = write_png(dataclasses.replace(drawing, items=(item,)))
        rows, columns = np.nonzero(pixels(alone, 2).max(axis=2) < 250)
        left, top, right, bottom = box_of(item)
        if item.upright:
            half = (right - left) / 2
            left, top, right, bottom = item.x - item.size, item.y - half, item.x + 5, item.y + half
        assert len(rows), item
        assert left - 3 <= 2 * columns.min() <= 2 * columns.max() <= right + 3
        assert top - 3 <= 2 * rows.min() <= 2 * rows.max() <= bottom + 3


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(figures())
def test_any_figure_is_written_in_both_formats(shown: Figure) -> None:
    root = ElementTree.fromstring(draw_svg(shown))
    told = [e.text or "" for e in root.iter() if e.tag.endswith("}text")]
    assert told == [
        text.replace("\ufffe", "").replace("\uffff", "") for text in texts(draw_figure(shown))
    ]
    assert not [e for e in root.iter() if e.tag.endswith("script")]
    image = Image.open(io.BytesIO(draw_png(shown)))
    image.load()
    assert image.size == (SCALE * WIDTH, SCALE * HEIGHT)


def test_hostile_text_is_escaped() -> None:
    hostile = "x\x1b[31m</text><script>alert(1)</script>&\"'\u202e\ud800"
    svg = draw_svg(figure(curve([1.0, 2.0], label=hostile), title=hostile, y_name=hostile))
    assert b"<script" not in svg
    assert b"\x1b" not in svg
    ElementTree.fromstring(svg)


@pytest.mark.parametrize(
    "text", ["日本語 🚀", "שלום", "naïve", "\x00\x1b\n", "\u0301", "", "W" * 99_999]
)
def test_letters_the_font_lacks_are_replaced(text: str) -> None:
    shown = figure(curve([1.0, 2.0], label=text), title=text, y_name=text)
    assert draw_png(shown).startswith(b"\x89PNG")


def test_missing_letters_leave_a_sign_and_accents_their_letter() -> None:
    def ink(title: str) -> NDArray[np.float64]:
        return pixels(draw_png(figure(curve([1.0]), title=title)), 2)[:18]

    assert (ink("日本") < 128).any(), "a box for each"
    assert (ink("naïve") == ink("naive")).all()


def test_a_picture_is_the_same_every_time() -> None:
    assert draw_png(rich_figure()) == draw_png(rich_figure())
    assert draw_svg(rich_figure()) == draw_svg(rich_figure())


def test_pillow_is_loaded_only_to_draw_a_png() -> None:
    code = (
        "import sys, shared.export.picture, shared.hub.curve, shared.charts.svg, shared.charts.png,"
        " monitor.actions.export, monitor.first_look; sys.exit('PIL' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
