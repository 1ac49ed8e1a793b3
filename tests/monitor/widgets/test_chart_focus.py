"""The focused chart: the numbers under it, what happened, and where the window is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from monitor.chart_state import ChartState
from monitor.data.views import EventView
from monitor.widgets.chart_focus import ChartFocus
from tests.monitor.support import NOW, screen_text, series, until
from tests.monitor.widgets.chart_app import ChartApp, Run, metrics_run


def focus_app(*runs: Run, state: ChartState | None = None) -> tuple[ChartApp, ChartFocus]:
    focus = ChartFocus(id="focus")
    return ChartApp(focus, *runs, state=state), focus


async def test_the_chart_under_the_cursor_is_shown() -> None:
    app, focus = focus_app(metrics_run(), state=ChartState(cursor="m1"))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert screen_text(app).startswith(" ━ m1")
        focus.next_chart(1)
        await until(pilot, lambda: screen_text(app).startswith(" ━ m2"))
        for _ in range(3):
            focus.next_chart(1)
        assert focus.scene.key == "tokens_total"
        focus.next_chart(-1)
        assert focus.scene.key == "loss"


async def test_other_metrics_are_read_at_the_same_place() -> None:
    app, focus = focus_app(metrics_run(), state=ChartState(crosshair=100.0))
    async with app.run_test(size=(120, 30)) as pilot:
        await pilot.pause()
        below = screen_text(app).split("\n")[-2]
        assert "tokens_total" in below
        assert "m2" in below
        value = focus.scene.readings("m2")[0].value
        assert value == pytest.approx(app.runs[0][1].series["m2"].values[100])


async def test_what_happened_under_the_crosshair_is_told() -> None:
    app, focus = focus_app(metrics_run())
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        assert "▲ spike" in screen_text(app)
        focus.perform("next_mark")
        focus.perform("next_mark")
        told = "▲ spike at step 500: loss 12, far above the mean"
        await until(pilot, lambda: told in screen_text(app))


async def test_overlaid_runs_have_a_table() -> None:
    app, _ = focus_app(metrics_run("first"), metrics_run("second"))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        lines = screen_text(app).split("\n")
        rows = [line for line in lines if "min" in line and "max" in line]
        assert [row.split()[1] for row in rows] == ["first", "second"]
        assert "first" not in lines[0]


async def test_the_rail_shows_and_moves_the_window() -> None:
    app, focus = focus_app(metrics_run(), state=ChartState(span=200, end=300))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        rail = screen_text(app).split("\n")[-1]
        assert "steps 100 to 300" in rail
        assert rail[11:29] == "━" * 18
        assert rail[0] == rail[99] == "─"
        await pilot.click("#focus", offset=(80, 29))
        window = focus.scene.window
        assert (window.first + window.last) / 2 == pytest.approx(800, abs=10)
        focus.perform("reset")
        await until(pilot, lambda: "━━━━" not in screen_text(app).split("\n")[-1])


async def test_a_live_run_is_followed_at_its_end() -> None:
    view, detail = metrics_run(steps=1000)
    app, focus = focus_app((view, detail), state=ChartState(span=100))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert (focus.scene.window.first, focus.scene.window.last) == (899, 999)
        longer = {**detail.series, "loss": series("loss", np.ones(1200))}
        app.give((view, dataclasses.replace(detail, series=longer, version=2)))
        await until(pilot, lambda: focus.scene.window.last == 1199)
        await until(pilot, lambda: "steps 1,099 to 1,199" in screen_text(app))


async def test_weight_and_scales_are_told() -> None:
    app, focus = focus_app(metrics_run())
    async with app.run_test(size=(100, 24)) as pilot:
        await pilot.pause()
        focus.perform("smoother")
        focus.perform("log_y")
        await until(pilot, lambda: "ema 0.5" in screen_text(app) and "log y" in screen_text(app))
        focus.perform("next_axis")
        await until(pilot, lambda: "200k" in screen_text(app))
        assert focus.scene.axis == "tokens"


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (44, 8), (81, 3), (300, 80)], ids=str)
@pytest.mark.parametrize("runs", [0, 1, 5])
async def test_any_size(size: tuple[int, int], runs: int) -> None:
    app, focus = focus_app(*(metrics_run(f"r{i}") for i in range(runs)),
                           state=ChartState(span=10, crosshair=995.0))  # fmt: skip
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        for y in range(size[1]):
            assert focus.render_line(y).cell_length == size[0]


async def test_signs_without_room_are_left_out_whole() -> None:
    view, detail = metrics_run()
    kinds = ("spike", "rolled back", "out of memory", "new best", "nonfinite", "stalled")
    events = tuple(EventView(NOW, 100 * i, kind, "") for i, kind in enumerate(kinds))
    app, _ = focus_app((view, dataclasses.replace(detail, events=events)))
    async with app.run_test(size=(50, 24)) as pilot:
        await pilot.pause()
        line = screen_text(app).split("\n")[-1]
        assert " ".join(line.split()) == "✕ not finite ■ out of memory ◀ rolled back"
