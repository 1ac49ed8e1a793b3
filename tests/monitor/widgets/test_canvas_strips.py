"""Pictures become strips of the same text, in the colours of the theme."""

from __future__ import annotations

import pytest
from rich.style import Style
from textual.app import App

from monitor.chart.picture import Ink, Picture
from monitor.theme import THEMES, colours_of
from monitor.widgets.canvas_strips import StripMaker


def bare_app() -> App[None]:
    """Nothing but a theme."""
    app: App[None] = App()
    app.register_theme(THEMES["night"])
    app.theme = "night"
    return app


def picture() -> Picture:
    found = Picture(12, 2)
    found.write(0, 0, "ab", Ink("train"))
    found.write(0, 4, "cd", Ink("train", "dim"))
    found.write(1, 0, "ef", Ink("nonfinite", "bold"))
    found.grounds[1, 6:] = found.ground("phase-full")
    found.grounds[0, :] = found.ground("heading")
    return found


async def test_text_colours_and_grounds() -> None:
    app = bare_app()
    async with app.run_test():
        base = Style.parse("#d5dce6 on #000000")
        heading = Style(bgcolor="#171d26")
        maker = StripMaker(colours_of(app), base, {"heading": heading})
        first, second = maker.strips(picture())
        train = colours_of(app).style("train").color
    assert [strip.text for strip in (first, second)] == ["ab  cd      ", "ef          "]
    assert [strip.cell_length for strip in (first, second)] == [12, 12]
    bright, dim = (segment.style for segment in first)
    assert bright is not None
    assert dim is not None
    assert bright.color == train
    assert dim.color not in (train, None)
    assert bright.bgcolor == heading.bgcolor
    loud, tinted = (segment.style for segment in second)
    assert loud is not None
    assert tinted is not None
    assert loud.bold
    assert loud.bgcolor == base.bgcolor
    assert tinted.bgcolor not in (base.bgcolor, None)


@pytest.mark.parametrize("base", [Style(), Style.parse("white on black")])
async def test_without_true_colours_nothing_is_tinted(base: Style) -> None:
    app = bare_app()
    async with app.run_test():
        first, second = StripMaker(colours_of(app), base).strips(picture())
    *_, dim = (segment.style for segment in first)
    assert dim is not None
    assert dim.dim
    assert all(s.style is not None and s.style.bgcolor == base.bgcolor for s in second)
