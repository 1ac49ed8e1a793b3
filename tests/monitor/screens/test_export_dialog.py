"""What and where; a file that already exists is asked about."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.actions.export import CSV, KINDS, TEXT, ExportChoice
from monitor.screens.export_dialog import ExportScreen
from tests.monitor.screens.conftest import SIZES, Open


def screen(folder: Path, **options: object) -> ExportScreen:
    return ExportScreen(
        "demo",
        lambda kind: "demo" + KINDS[kind][1],
        folder=folder,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("size", SIZES)
async def test_the_name_follows_the_kind(
    tmp_path: Path, opened: Open, size: tuple[int, int]
) -> None:
    async with opened(screen(tmp_path), size) as on:
        await on.shows("demo.svg")
        await on.press("down", "down")
        await on.shows("demo.csv")
        await on.press("enter")
        assert await on.answered() == ExportChoice(CSV, tmp_path / "demo.csv")


async def test_a_typed_name_stays_but_for_its_end(tmp_path: Path, opened: Open) -> None:
    async with opened(screen(tmp_path)) as on:
        await on.press("tab", *"mine.svg", "shift+tab", "down", "down", "down")
        await on.shows("mine.txt")
        await on.click("#export")
        assert await on.answered() == ExportChoice(TEXT, tmp_path / "mine.txt")


async def test_what_is_there_is_replaced_only_when_asked_twice(
    tmp_path: Path, opened: Open
) -> None:
    (tmp_path / "demo.svg").write_text("mine")
    async with opened(screen(tmp_path)) as on:
        await on.shows("demo.svg")
        await on.press("enter")
        await on.shows("already exists; Enter again replaces it.")
        await on.press("down", "up")  # another kind meanwhile: asked anew
        await on.press("enter")
        await on.shows("already exists")
        assert not on.answers
        await on.press("enter")
        assert (await on.answered()).force


async def test_a_place_that_will_not_do(tmp_path: Path, opened: Open) -> None:
    async with opened(screen(tmp_path, kinds=(CSV, TEXT))) as on:
        assert "SVG" not in on.text
        await on.press("tab", *"none/x.csv", "enter")
        await on.shows("there is no folder")
        await on.press("end", "ctrl+u", "enter")
        await on.shows("Type a name")
        await on.press(*"~nobody/x", "enter")
        await on.shows("there is no folder")
        assert not on.answers


async def test_another_kind_under_the_same_name_is_asked_anew(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "mine.dat").write_text("mine")
    async with opened(screen(tmp_path)) as on:
        await on.press("tab", *"mine.dat", "enter")
        await on.shows("already exists")
        await on.press("shift+tab", "down", "enter")
        await on.until(lambda: not on.dialog.is_working)  # type: ignore[attr-defined]
        assert not on.answers
        await on.press("enter")
        assert (await on.answered()).kind == "png"
