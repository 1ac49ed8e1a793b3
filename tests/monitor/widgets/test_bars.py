"""The footer: its keys answer the mouse, and where nothing is shown it offers nothing."""

from __future__ import annotations

from functools import partial

import pytest

from monitor.actions.registry import ACTIONS
from monitor.screens.dialogs import HelpScreen
from monitor.widgets.bars import KeyBar
from tests.monitor.support import screen_text, still_app, until, view


def footer(text: str) -> str:
    return text.rsplit("\n", maxsplit=1)[-1]


@pytest.mark.parametrize("width", [60, 80, 200])
async def test_a_click_on_a_key_does_what_it_does(width: int) -> None:
    app = still_app(view("a"), view("b"))
    async with app.run_test(size=(width, 24)) as pilot:
        await pilot.pause()
        shown = footer(screen_text(app))
        await pilot.click("#keys", offset=(shown.index("help") + 1, 0))
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("escape")
        await pilot.click("#keys", offset=(shown.index("/ filter"), 0))
        await until(pilot, lambda: app.is_filtering)
        await pilot.press("escape")
        await until(pilot, lambda: app.query_one(KeyBar).display)
        await pilot.click("#keys", offset=(width - 1, 0))  # beside the last
        assert app.is_running
        await pilot.click("#keys", offset=(shown.index("q quit"), 0))
        await until(pilot, lambda: not app.is_running)


async def test_every_key_of_the_footer_can_be_clicked() -> None:
    app = still_app(view("a"))
    async with app.run_test(size=(200, 24)) as pilot:
        await until(pilot, lambda: app.selected is not None)
        shown = footer(screen_text(app))
        done: list[str] = []
        for name in app.acts:
            app.acts = {**app.acts, name: partial(done.append, name)}
        labelled = {action.name: f" {action.shown} {action.label} " for action in ACTIONS
                    if action.label}  # fmt: skip
        for words in (" Enter open ", *labelled.values()):
            await pilot.click("#keys", offset=(shown.index(words) + 1, 0))
        assert done == ["open", *labelled]


@pytest.mark.parametrize("size", [(50, 12), (59, 30), (100, 15)])
async def test_too_small_a_terminal_offers_to_leave(size: tuple[int, int]) -> None:
    app = still_app(view("a"))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        assert footer(screen_text(app)).split() == ["q", "quit"]
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "p pause" in footer(screen_text(app)))


@pytest.mark.parametrize("theme", ["sixteen", "mono"])
async def test_the_cursor_of_the_filter_needs_no_colour(
    monkeypatch: pytest.MonkeyPatch, theme: str
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = still_app(view("a"), theme=theme)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("slash", "a", "b")
        await until(pilot, lambda: "ab" in footer(screen_text(app)))
        strip = app.screen._compositor.render_strips(app.size)[-1]
        assert [s.text for s in strip if s.style and s.style.reverse] == [" "]
