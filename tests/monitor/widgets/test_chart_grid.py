"""The grid: every metric has its chart, keys and mouse move all of them together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from textual.widget import Widget

from monitor.chart_state import ChartState
from monitor.plots.paint import Drawn, paint
from monitor.plots.scene import Scene
from monitor.theme import THEMES
from monitor.widgets.chart_grid import ChartGrid
from monitor.widgets.chart_pane import ACTS
from shared.charts.labels import number
from shared.run.metrics_rows import Series
from tests.monitor.support import screen_text, series, until
from tests.monitor.widgets.chart_app import ChartApp, Run, metrics_run

SMALL, LARGE = (80, 24), (200, 50)


def grid_app(
    *runs: Run, state: ChartState | None = None, painter: Callable[..., Drawn] = paint
) -> tuple[ChartApp, ChartGrid]:
    grid = ChartGrid(id="grid", painter=painter)
    return ChartApp(grid, *runs, state=state), grid


def centre(grid: ChartGrid, key: str) -> tuple[int, int]:
    place = grid.place_of(key)
    return place.x + place.width // 2, place.y + place.height // 2


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=str)
async def test_every_metric_has_a_chart(size: tuple[int, int]) -> None:
    app, grid = grid_app(metrics_run(metrics=9))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        seen: set[str] = set()
        for _ in range(grid.arrangement.pages):
            text = screen_text(app)
            seen |= {key for key in grid.scene.keys if key in text}
            grid.turn_page(1)
            await pilot.pause()
        assert seen == set(grid.scene.keys)
        assert len(seen) == 10
        assert grid.scene.keys[0] == "loss"


async def test_a_small_terminal_has_one_column() -> None:
    app, grid = grid_app(metrics_run())
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        assert grid.arrangement.columns == 1
        assert "charts 1-2 of 6" in screen_text(app)


@pytest.mark.parametrize("size", [(60, 16), SMALL, LARGE], ids=str)
@pytest.mark.parametrize("runs", [1, 3])
async def test_which_page_it_is_fits(size: tuple[int, int], runs: int) -> None:
    shown = [metrics_run(f"run_{i}", metrics=150, steps=20) for i in range(runs)]
    app, grid = grid_app(*shown)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        await until(pilot, lambda: grid.is_settled)
        foot = screen_text(app).split("\n")[-1]
        pages = grid.arrangement.pages
        if "●" not in foot:
            assert f"page 1/{pages}" in foot
        grid.move_cursor(across=1 << 30)
        await until(pilot, lambda: grid.arrangement.page == pages - 1 and grid.is_settled)
        foot = screen_text(app).split("\n")[-1]
        assert f"page {pages}/{pages}" in foot or foot.rstrip().endswith("●")
        assert foot.rstrip()[-1] != "·"


async def test_the_cursor_goes_everywhere_and_turns_pages() -> None:
    app, grid = grid_app(metrics_run())
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        seen = [grid.scene.key]
        for _ in range(7):
            grid.move_cursor(down=1)
            await pilot.pause()
            seen.append(grid.scene.key)
        assert seen == [*grid.scene.keys, "m3", "m3"]
        assert "m3" in screen_text(app)
        assert "loss" not in screen_text(app)
        for _ in range(9):
            grid.move_cursor(across=-1)
        await pilot.pause()
        assert grid.scene.key == "loss"
        assert "▌━ loss" in screen_text(app)


async def test_up_and_down_stay_in_the_column() -> None:
    app, grid = grid_app(metrics_run(metrics=11))
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        keys, page = grid.scene.keys, grid.arrangement
        assert (page.columns, page.rows) == (3, 4)
        for start in keys[1:]:
            app.state = app.state.at_chart(start)
            grid.show(app.runs, app.state)
            x = centre(grid, start)[0]
            grid.move_cursor(down=1)
            found = centre(grid, grid.scene.key)
            assert abs(found[0] - x) < 40
            grid.move_cursor(down=-1)
            if grid.place_of(start).y < max(p.y for p in page.places):
                assert grid.scene.key == start


async def test_enter_opens_the_chart_under_the_cursor() -> None:
    app, grid = grid_app(metrics_run())
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        grid.move_cursor(down=1)
        grid.open()
        await until(pilot, lambda: app.opened == ["tokens_total"])


# -- keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ACTS)
async def test_every_act_changes_the_state_and_tells_it(act: str) -> None:
    state = ChartState(span=200, end=600, crosshair=450.0, weight=0.9)
    app, grid = grid_app(metrics_run(), state=state)
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        before = screen_text(app)
        grid.perform(act)
        assert grid.state != state
        await until(pilot, lambda: app.moves > 0)
        assert app.state == grid.state
        await until(pilot, lambda: screen_text(app) != before)


async def test_detail_comes_back_when_zoomed() -> None:
    values = np.zeros(1_000_000)
    values[500_000:500_040:2] = 1.0
    view, detail = metrics_run()
    one = series("loss", values)
    run = (view, dataclasses.replace(detail, loss=one, series={"loss": one}))
    app, grid = grid_app(run)
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        assert _teeth(screen_text(app)) <= 1
        grid.change(grid.state.pointed(500_020))
        for _ in range(14):
            grid.perform("zoom_in")
        await until(pilot, lambda: _teeth(screen_text(app)) == 20)


def _teeth(text: str) -> int:
    """How many times the curve comes up to the upper half of the canvas."""
    rows = text.split("\n")[2:20]
    drawn = [any(0x2800 < ord(row[x]) < 0x2900 for row in rows) for x in range(10, 199)]
    return sum(b and not a for a, b in pairwise(drawn))


async def test_the_crosshair_is_on_all_charts_with_values() -> None:
    app, grid = grid_app(metrics_run(metrics=7), state=ChartState(crosshair=400.0))
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        assert screen_text(app).count("step 400") == len(grid.scene.keys) == 8
        drawn = grid.drawn("tokens_total")
        assert drawn is not None
        (reading,) = grid.scene.readings("tokens_total")
        assert reading.value == 400 * 512
        assert number(400 * 512) in drawn.picture.text().split("\n")[0]


async def test_marks_are_visited_by_key() -> None:
    app, grid = grid_app(metrics_run())
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        grid.perform("next_mark")
        assert grid.state.crosshair == 250
        grid.perform("next_mark")
        assert grid.state.crosshair == 500
        app.state = grid.state
        grid.change(dataclasses.replace(grid.state, span=100.0, end=100.0, crosshair=50.0))
        grid.perform("next_mark")
        window = grid.scene.window
        assert window.first < 250 < window.last


# -- the mouse -----------------------------------------------------------------------------


async def test_the_pointer_moves_the_crosshair_until_it_is_pinned() -> None:
    app, grid = grid_app(metrics_run())
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        x, y = centre(grid, "m1")
        await pilot.hover("#grid", offset=(x, y))
        first = grid.state.crosshair
        assert first is not None
        await pilot.hover("#grid", offset=(x + 5, y))
        assert grid.state.crosshair > first  # type: ignore[operator]
        await pilot.click("#grid", offset=(x, y))
        assert grid.state.crosshair == first
        assert grid.scene.key == "m1"
        await pilot.hover("#grid", offset=(x + 9, y))
        assert grid.state.crosshair == first


async def test_the_wheel_zooms_at_the_pointer() -> None:
    app, grid = grid_app(metrics_run(steps=100_000))
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        x, y = centre(grid, "m1")
        await pilot.hover("#grid", offset=(x, y))
        at = grid.state.crosshair
        assert at is not None
        for _ in range(6):
            await pilot._post_mouse_events([_scroll_up()], grid, offset=(x, y))
        window = grid.scene.window
        assert window.last - window.first < 30_000
        share = (at - window.first) / (window.last - window.first)
        assert share == pytest.approx(at / 99_999, abs=0.02)


def _scroll_up() -> Any:
    from textual.events import MouseScrollUp

    return MouseScrollUp


async def test_a_drag_pans_and_a_double_click_shows_everything() -> None:
    app, grid = grid_app(metrics_run(), state=ChartState(span=100, end=600))
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        x, y = centre(grid, "m1")
        await pilot.mouse_down("#grid", offset=(x, y))
        await pilot.hover("#grid", offset=(x + 20, y))
        await pilot.mouse_up("#grid", offset=(x + 20, y))
        drawn = grid.drawn("m1")
        assert drawn is not None
        moved = 500 - grid.scene.window.first
        assert moved == pytest.approx(20 / drawn.layout.columns * 100, abs=1.5)
        await pilot.click("#grid", offset=(x, y), times=2)
        assert not grid.state.is_zoomed


async def test_two_clicks_on_a_heading_open_the_chart() -> None:
    app, grid = grid_app(metrics_run())
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        place = grid.place_of("m1")
        await pilot.click("#grid", offset=(place.x + 3, place.y), times=2)
        await until(pilot, lambda: app.opened == ["m1"])


# -- only what is needed -------------------------------------------------------------------


class Painter:
    """Paints charts and notes their keys."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, scene: Scene, key: str, *args: Any, **more: Any) -> Drawn:
        self.keys.append(key)
        return paint(scene, key, *args, **more)


async def test_only_charts_that_are_seen_are_drawn() -> None:
    painter = Painter()
    app, _ = grid_app(metrics_run(metrics=9), painter=painter)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        assert set(painter.keys) == {"loss", "tokens_total"}


async def test_a_moved_cursor_draws_two_charts() -> None:
    painter = Painter()
    app, grid = grid_app(metrics_run(metrics=9), painter=painter)
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        painter.keys.clear()
        grid.move_cursor(across=1)
        await until(pilot, lambda: len(painter.keys) >= 2)
        await pilot.pause()
        assert sorted(painter.keys) == ["loss", "tokens_total"]


async def test_the_same_again_draws_nothing() -> None:
    painter = Painter()
    app, grid = grid_app(metrics_run(), painter=painter)
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        painter.keys.clear()
        view, detail = app.runs[0]
        app.give((view, detail))
        app.give((dataclasses.replace(view, step=5), detail))
        grid.change(grid.state)
        await pilot.pause(0.1)
        assert painter.keys == []


async def test_hidden_charts_are_drawn_when_they_are_shown_again() -> None:
    painter = Painter()
    app, grid = grid_app(metrics_run(), painter=painter)
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        grid.display = False
        await pilot.pause()
        painter.keys.clear()
        view, detail = app.runs[0]
        app.give((view, dataclasses.replace(detail, version=2)))
        await pilot.pause(0.1)
        assert painter.keys == []
        grid.display = True
        await until(pilot, lambda: len(painter.keys) == len(grid.scene.keys))


async def test_a_storm_of_data_is_drawn_once_in_a_while() -> None:
    painter = Painter()
    view, detail = metrics_run()
    app, grid = grid_app((view, detail), painter=painter)
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        painter.keys.clear()
        for version in range(2, 202):
            app.give((view, dataclasses.replace(detail, version=version)))
            if version % 20 == 0:
                await pilot.pause()
        charts = len(grid.scene.keys)
        await until(pilot, lambda: len(painter.keys) >= charts)
        await until(pilot, lambda: grid.scene.shown[0].detail.version == 201 and grid.is_settled)
        assert len(painter.keys) <= 40 * charts


async def test_a_storm_of_wheel_notches_is_drawn_together() -> None:
    painter = Painter()
    app, grid = grid_app(metrics_run(steps=100_000), painter=painter)
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        painter.keys.clear()
        for _ in range(50):
            grid.perform("pan_right")
            grid.perform("zoom_in")
        await pilot.pause()
        await until(pilot, lambda: len(painter.keys) >= len(grid.scene.keys))
        await pilot.pause(0.1)
        assert len(painter.keys) <= 3 * len(grid.scene.keys)


# -- what there is not ---------------------------------------------------------------------


async def test_what_is_missing_is_told() -> None:
    view, detail = metrics_run()
    nothing = series("loss", [])
    empty = dataclasses.replace(detail, loss=nothing, val_loss=nothing, series={})
    app, _ = grid_app((view, empty))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        assert "No metrics yet" in screen_text(app)
        app.give((view, dataclasses.replace(empty, loading=0.1)))
        await until(pilot, lambda: "reading metrics.jsonl" in screen_text(app))
        app.give()
        await until(pilot, lambda: "reading" not in screen_text(app))
        app.give((view, dataclasses.replace(detail, approximate=True, version=5)))
        await until(pilot, lambda: "≈ approximate" in screen_text(app))


async def test_one_point_and_a_diverged_run() -> None:
    view, detail = metrics_run()
    one = {"loss": series("loss", [2.5]), "bad": series("bad", [math.nan] * 5)}
    app, _ = grid_app((view, dataclasses.replace(detail, series=one)))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        text = screen_text(app)
        assert "one point so far" in text
        assert "✕ 5 nan/inf" in text


HOSTILE = [
    "[red]x[/red]",
    "[@click=app.boom]name[/]",
    "\x1b]0;owned\x07",
    "a\nb\tc",
    "漢字" * 30,
    "x" * 500,
    "\u202egnirts",
    "[/]",
]


async def test_hostile_names_do_no_harm() -> None:
    keys = {key: Series(key, np.arange(5), np.ones(5)) for key in HOSTILE}
    runs = []
    for i, name in enumerate(HOSTILE[:8]):
        view, detail = metrics_run(f"run {i}", label=name)
        runs.append((view, dataclasses.replace(detail, series=keys)))
    for shown in (runs[:1], runs):
        app, grid = grid_app(*shown)
        async with app.run_test(size=LARGE) as pilot:
            await pilot.pause()
            text = screen_text(app)
            assert not any(ord(c) < 32 and c != "\n" for c in text)
            assert "\u202e" not in text
            for y in range(50):
                assert grid.render_line(y).cell_length == 200


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (44, 8), (81, 3), (300, 80)], ids=str)
async def test_any_size(size: tuple[int, int]) -> None:
    app, grid = grid_app(metrics_run(), metrics_run("b"))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        assert isinstance(grid, Widget)
        for y in range(size[1]):
            assert grid.render_line(y).cell_length == size[0]


async def test_without_colours_overlaid_runs_have_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app, grid = grid_app(metrics_run("first"), metrics_run("second"))
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        assert grid.scene.plain
        text = screen_text(app)
        assert " A first  B second " in text


async def test_overlaid_runs_are_named_once_below_the_charts() -> None:
    app, _ = grid_app(metrics_run("first"), metrics_run("second"))
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        text = screen_text(app)
        assert text.count("first") == text.count("second") == 1
        assert "first" in text.split("\n")[-1]


async def test_another_theme_recolours_everything() -> None:
    app, grid = grid_app(metrics_run())
    app.register_theme(THEMES["day"])
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        before = grid.render_line(0), grid.render_line(20)
        app.theme = "day"
        await until(pilot, lambda: grid.render_line(20) != before[1])
        shown = {s.style.bgcolor for s in grid.render_line(20) if s.style and s.style.bgcolor}
        old = {s.style.bgcolor for s in before[1] if s.style and s.style.bgcolor}
        assert not shown & old
