"""What dialogs have in common: they can be read and left in every theme and size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.color import Color
from rich.style import Style
from textual.geometry import Region
from textual.widgets import Button, OptionList

from monitor.app import MonitorApp
from monitor.screens.dialogs import ConfirmScreen
from tests.monitor.dialogs import DIALOGS
from tests.monitor.screens.conftest import Driver, Open

THEMES = ("night", "day", "clear", "sixteen", "mono")


def cells(app: MonitorApp, region: Region) -> list[tuple[str, Style]]:
    """Character and style of every cell of a region of one line."""
    strip = app.screen._compositor.render_strips(app.size)[region.y]
    found = [(c, segment.style or Style.null()) for segment in strip for c in segment.text]
    return found[region.x : region.right]


def contrast(one: Color | None, other: Color | None) -> float:
    """That of WCAG 2: from 1 for the same colour to 21 for black on white."""
    assert one is not None
    assert other is not None
    light = sorted((_luminance(one), _luminance(other)))
    return (light[1] + 0.05) / (light[0] + 0.05)


def _luminance(colour: Color) -> float:
    parts = [c / 255 for c in colour.get_truecolor()]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


async def under_the_cursor(on: Driver) -> list[tuple[str, Style]]:
    """The line of the list that the keys act on."""
    found = on.dialog.query_one(OptionList)
    await on.until(lambda: found.highlighted == 0 and found.size.height)
    region = found.region
    await on.until(lambda: cells(on.app, Region(region.x, region.y, 1, 1))[0][0] == "▌")
    return cells(on.app, Region(region.x, region.y, region.width, 1))


@pytest.mark.parametrize(
    ("name", "theme"),
    [*(("prune", theme) for theme in THEMES), ("trash", "day"), ("trash", "mono"),
     ("export", "night"), ("export", "sixteen")],
)  # fmt: skip
async def test_the_line_under_the_cursor_stands_out_and_can_be_read(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, name: str, theme: str
) -> None:
    if theme == "mono":
        monkeypatch.setenv("NO_COLOR", "1")
    async with opened(DIALOGS[name](tmp_path), theme=theme) as on:
        line = await under_the_cursor(on)
        written = [(c, style) for c, style in line[1:] if c.strip()]
        assert written
        for _, style in written:
            assert style.bold
            if theme in ("sixteen", "mono"):  # black on white, or white on black: as it is
                assert style.bgcolor is None or style.bgcolor.is_default
            else:
                assert contrast(style.color, style.bgcolor) >= 3


@pytest.mark.parametrize("theme", THEMES)
async def test_an_empty_field_can_be_seen(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, theme: str
) -> None:
    if theme == "mono":
        monkeypatch.setenv("NO_COLOR", "1")
    async with opened(DIALOGS["prune"](tmp_path), theme=theme) as on:
        await on.shows("In the trash")
        field = on.dialog.query_one("#keep_every").region
        beside = cells(on.app, Region(field.right, field.y, 1, 1))[0][1]
        for _, style in cells(on.app, field):
            assert style.underline or style.bgcolor != beside.bgcolor


@pytest.mark.parametrize("theme", THEMES)
async def test_a_button_that_cannot_be_pressed_says_what_it_would_do(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, theme: str
) -> None:
    if theme == "mono":
        monkeypatch.setenv("NO_COLOR", "1")
    async with opened(DIALOGS["delete"](tmp_path), theme=theme) as on:
        await on.shows("Type hybrid-25m")
        button = on.dialog.query_one("#delete", Button)
        assert button.disabled
        shown = cells(on.app, button.region)
        assert "".join(c for c, _ in shown).strip() == "Delete ⏎"
        if theme not in ("sixteen", "mono"):
            least = min(contrast(s.color, s.bgcolor) for c, s in shown if c.strip())
            assert least >= 2.5, shown[1]


@pytest.mark.parametrize("theme", ["sixteen", "mono"])
async def test_the_cursor_of_a_field_needs_no_colour(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, theme: str
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with opened(DIALOGS["tags"](tmp_path), theme=theme) as on:
        await on.shows("baseline, lr sweep")
        field = on.dialog.query_one("#line").region
        assert [c for c, style in cells(on.app, field) if style.reverse] == [" "]


@pytest.mark.parametrize("name", DIALOGS)
@pytest.mark.parametrize("size", [(60, 16), (200, 50)])  # the pictures are of 80x24
async def test_all_of_it_fits(
    tmp_path: Path, opened: Open, name: str, size: tuple[int, int]
) -> None:
    async with opened(DIALOGS[name](tmp_path), size) as on:
        await on.pilot.pause()
        for button in on.dialog.query(Button):
            if button.display:
                box: Any = button.parent
                assert box.parent.content_region.contains_region(button.region), button
                label = "".join(c for c, _ in cells(on.app, button.region)).strip()
                assert label == str(button.label)


async def test_enter_alone_is_harmless(opened: Open) -> None:
    for keys, answer in (
        (["enter"], False),
        (["escape"], False),
        (["n"], False),
        (["y"], True),
        (["right", "enter"], True),
        (["tab", "enter"], True),
        (["right", "left", "enter"], False),
    ):
        async with opened(ConfirmScreen("Stop it?", "It ends.")) as on:
            await on.shows("⏎ takes the highlighted answer")
            await on.press(*keys)
            assert await on.answered() is answer, keys
    async with opened(ConfirmScreen("Stop it?", "It ends.")) as on:
        await on.click("#yes")
        assert await on.answered() is True
