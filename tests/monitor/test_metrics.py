"""Hundreds of metrics: find, filter, fold, choose, and see them over another axis."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from textual.widgets import OptionList

from monitor.actions.registry import ACTIONS
from monitor.app import MonitorApp
from monitor.controllers.dialogs import axis_dialog, main_dialog, metric_dialog
from monitor.data.views import RunDetail
from monitor.plots.scene import Scene
from monitor.screens.metric_dialog import MetricScreen
from monitor.screens.palette import ActionProvider
from monitor.settings import SettingsFile
from monitor.widgets.chart_grid import ChartGrid
from monitor.widgets.chart_pane import ChartPane
from monitor.widgets.run_list import RunList
from shared.text import one_line
from tests.monitor.support import screen_text, series, still_app, until, view

pytestmark = pytest.mark.slow  # dialogs, through the whole app

SMALL, LARGE = (80, 24), (200, 50)
GROUPS = ("train", "eval", "gradients", "weights", "rewards")


def many_metrics(per_group: int = 100, **more: object) -> RunDetail:
    """A run with five groups of metrics, `train/loss` among them, and no `loss`."""
    steps, found = np.arange(50.0), {"learning_rate": series("learning_rate", np.arange(50.0))}
    for group in GROUPS:
        names = ["loss", "accuracy", *(f"layer_{i}" for i in range(per_group - 2))]
        for number, name in enumerate(names):
            key = f"{group}/{name}"
            found[key] = series(key, np.exp(-steps / 20) + number)
    nothing = series("val_loss", [])
    return RunDetail("r", found["train/loss"], nothing, series=found, version=1, **more)  # type: ignore[arg-type]


def monitor(per_group: int = 100, settings: SettingsFile | None = None) -> MonitorApp:
    return still_app(view("r"), detail=many_metrics(per_group), settings=settings)


def grid(app: MonitorApp) -> ChartGrid:
    return app.screen_stack[0].query_one(ChartGrid)


def scene(app: MonitorApp) -> Scene:
    assert isinstance(app.page.chart, ChartPane)
    return app.page.chart.scene


async def on_charts(pilot: object, app: MonitorApp) -> None:
    await until(pilot, lambda: app.detail is not None)
    await pilot.press("2")  # type: ignore[attr-defined]
    await until(pilot, lambda: grid(app).is_settled and bool(scene(app).keys))


async def dialog(pilot: object, app: MonitorApp, key: str) -> None:
    await pilot.press(key)  # type: ignore[attr-defined]
    await until(pilot, lambda: isinstance(app.screen, MetricScreen) and bool(app.focused))


# -- filter ------------------------------------------------------------------------------------


async def test_a_filter_shows_the_charts_that_match() -> None:
    app = monitor()
    async with app.run_test(size=SMALL) as pilot:
        await on_charts(pilot, app)
        await pilot.press("slash", *"l/acc")
        await until(pilot, lambda: "1 of 500" in screen_text(app))
        assert "metrics l/acc" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: not app.is_filtering and grid(app).is_settled)
        assert scene(app).keys == ["eval/accuracy"]
        assert "1 of 500 match l/acc" in screen_text(app)
        assert app.look.in_page, "the keys stay with the charts"
        await pilot.press("enter")
        await until(pilot, lambda: app.look.focused)
        await pilot.press("escape")
        assert scene(app).keys == ["eval/accuracy"], "first back to the grid"
        await pilot.press("escape")
        assert len(scene(app).keys) == 500
        await pilot.press("slash", "slash", *"^r.+_[12]$", "enter")
        assert scene(app).keys == ["rewards/layer_1", "rewards/layer_2"]
        await pilot.press("1")
        await until(pilot, lambda: "train/loss" in screen_text(app))
        assert app.look.chart.query, "the overview shows the main metric, whatever is filtered"


async def test_in_the_list_the_filter_is_that_of_the_runs() -> None:
    app = monitor(4)
    async with app.run_test(size=SMALL) as pilot:
        await on_charts(pilot, app)
        await pilot.press("tab", "slash", "q", "enter")
        assert (app.look.order.query, app.look.chart.query) == ("q", "")


#: Keys for the charts, without those that ask for another metric or are for all of them.
CHART_KEYS = sorted(
    key
    for action in ACTIONS
    if action.group == "Charts" and action.name not in ("find_metric", "main_metric")
    for key in action.keys
)


async def test_where_no_metric_matches_no_key_acts_on_anything() -> None:
    app = monitor(4)
    async with app.run_test(size=SMALL) as pilot:
        await on_charts(pilot, app)
        await pilot.press("slash", "z", "z", "z", "enter")
        await until(pilot, lambda: "No metric matches zzz" in screen_text(app))
        before = app.look
        for key in [*CHART_KEYS, "j", "k", "G", "g", "pageup", "pagedown", "enter"]:
            await pilot.press(key)
            assert (app.look, len(app.screen_stack)) == (before, 1), key
            assert "No metric matches zzz" in screen_text(app)
        assert "Esc clears the filter" in app.notice
        await pilot.press("escape")
        assert app.look == dataclasses.replace(before, chart=before.chart.filtered(""))


# -- by name -----------------------------------------------------------------------------------


async def test_j_jumps_to_a_metric_whatever_hides_it() -> None:
    app = monitor()
    async with app.run_test(size=LARGE) as pilot:
        await on_charts(pilot, app)
        await pilot.press("F", "slash", *"in/", "enter")
        await dialog(pilot, app, "J")
        await pilot.press(*"ds/ 97", "enter")
        await until(pilot, lambda: len(app.screen_stack) == 1 and grid(app).is_settled)
        assert scene(app).key == "rewards/layer_97"
        assert "▌━ rewards/layer_97" in screen_text(app)
        assert "rewards/" not in app.look.chart.folded
        assert app.look.chart.query == ""


async def test_the_dialog_takes_what_is_highlighted_and_nothing_where_nothing_matches() -> None:
    app = monitor()
    async with app.run_test(size=SMALL) as pilot:
        await on_charts(pilot, app)
        await dialog(pilot, app, "J")
        assert "500 of 500" in screen_text(app)
        await pilot.press(*"zzz", "enter")
        assert "Nothing matches." in screen_text(app)
        assert isinstance(app.screen, MetricScreen)
        await pilot.press("home", *"/(", "enter")
        assert "is not a regular expression" in screen_text(app)
        await pilot.press("escape")
        assert len(app.screen_stack) == 1
        await dialog(pilot, app, "J")
        await pilot.press(*"nts", "down", "down")
        assert app.screen.query_one(OptionList).highlighted == 2
        await pilot.press("up", "enter")
        await until(pilot, lambda: scene(app).key == "gradients/accuracy")


async def test_a_metric_is_found_from_any_page_and_in_the_palette() -> None:
    app = monitor(3)
    async with app.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: app.detail is not None)
        await dialog(pilot, app, "J")
        await pilot.press(*"l/acc", "enter")
        await until(pilot, lambda: app.look.page == "charts")
        assert scene(app).key == "eval/accuracy"
        provider = ActionProvider(app.screen)
        hits = [hit async for hit in provider.search("chart of eval/loss")]
        best = max(hits, key=lambda hit: hit.score)
        assert "chart of eval/loss" in str(best.text)
        best.command()
        assert scene(app).key == "train/loss", "it is drawn there"


# -- the main metric ---------------------------------------------------------------------------


async def test_the_main_metric_is_chosen_and_remembered(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    app = monitor(5, SettingsFile(path))
    async with app.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: "━ train/loss" in screen_text(app))
        assert "━ eval/loss" in screen_text(app), "its evaluation is beside it"
        await dialog(pilot, app, "M")
        await pilot.press(*"hts/a", "enter")
        await until(pilot, lambda: "━ weights/accuracy" in screen_text(app))
        await until(pilot, lambda: path.exists() and "weights/accuracy" in path.read_text())
    again = monitor(5, SettingsFile(path))
    async with again.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: "━ weights/accuracy" in screen_text(again))
        await on_charts(pilot, again)
        assert scene(again).keys[0] == "weights/accuracy"
        await dialog(pilot, again, "M")
        await pilot.press("home", *"def", "enter")
        await until(pilot, lambda: scene(again).keys[0] == "train/loss")
        assert again.settings.main_metric == ""


# -- groups and sizes --------------------------------------------------------------------------


async def test_groups_fold_by_key_by_enter_and_by_click() -> None:
    app = monitor(5)
    async with app.run_test(size=LARGE) as pilot:
        await on_charts(pilot, app)
        await until(pilot, lambda: "▾ train/  4 charts" in screen_text(app))
        await pilot.press("F")
        await until(pilot, lambda: "▸ rewards/  5 charts" in screen_text(app))
        text = screen_text(app)
        assert "train/accuracy" not in text
        assert "train/loss" in text, "the main metric is in no group"
        await pilot.press("G")
        assert scene(app).metrics.folded_at(scene(app).key) == "rewards/"
        await pilot.press("enter")
        await until(pilot, lambda: "▾ rewards/  5 charts" in screen_text(app))
        assert not app.look.focused
        await pilot.press("f")
        await until(pilot, lambda: "▸ rewards/" in screen_text(app))
        row = next(i for i, x in enumerate(screen_text(app).split("\n")) if "▸ eval/" in x)
        at = grid(app).region
        await pilot.click("#grid", offset=(4, row - at.y))
        await until(pilot, lambda: "▾ eval/" in screen_text(app))
        assert app.settings.folded == ("gradients/", "rewards/", "train/", "weights/")
        await pilot.press("g", "f")
        assert "in no group" in app.notice


async def test_while_a_filter_shows_all_groups_none_is_folded() -> None:
    app = monitor(5)
    async with app.run_test(size=LARGE) as pilot:
        await on_charts(pilot, app)
        await pilot.press("slash", *"layer", "enter")
        await until(pilot, lambda: not app.is_filtering and "▾ eval/" in screen_text(app))
        before = app.look.chart
        for key in ("f", "F"):
            await pilot.press(key)
            assert (app.look.chart, "Esc clears it" in app.notice) == (before, True)
            app.tell("")
        row = next(i for i, x in enumerate(screen_text(app).split("\n")) if "▾ eval/" in x)
        await pilot.click("#grid", offset=(4, row - grid(app).region.y))
        await until(pilot, lambda: "Esc clears it" in app.notice)
        assert app.look.chart == before
        await pilot.press("escape", "F")
        await until(pilot, lambda: "▸ eval/" in screen_text(app))


async def test_every_chart_is_reached_by_going_down_and_back_up() -> None:
    app = monitor(5)
    async with app.run_test(size=LARGE) as pilot:
        await on_charts(pilot, app)
        await pilot.press("z", "z")
        seen = [scene(app).key]
        for _ in range(40):
            grid(app).move_cursor(across=1)
            if scene(app).key == seen[-1]:
                break
            seen.append(scene(app).key)
        assert seen == scene(app).keys
        rows = 0
        while rows < 60:
            before = scene(app).key
            grid(app).move_cursor(down=-1)
            rows += 1
            if scene(app).key == before:
                break
        assert scene(app).metrics.stop_of(scene(app).key) < grid(app).arrangement.columns


async def test_the_size_of_the_grid_is_changed_by_a_key() -> None:
    app = monitor()
    async with app.run_test(size=SMALL) as pilot:
        await on_charts(pilot, app)
        counts = []
        for _ in range(4):
            counts.append(len(grid(app).arrangement.places))
            await pilot.press("z")
        medium, small, tiny, large = counts
        assert large < medium < small < tiny
        assert app.settings.chart_size == "medium"


async def test_only_what_is_seen_of_500_metrics_is_drawn() -> None:
    app = monitor()
    async with app.run_test(size=LARGE) as pilot:
        await on_charts(pilot, app)
        assert scene(app).metrics.total == 500
        shown = scene(app).keys[: len(grid(app).arrangement.places)]
        assert [key for key in scene(app).keys if grid(app).drawn(key)] == shown
        assert len(shown) < 20


# -- the x axis --------------------------------------------------------------------------------


async def test_any_metric_is_an_x_axis_and_x_goes_back() -> None:
    app = monitor(3)
    async with app.run_test(size=SMALL) as pilot:
        await on_charts(pilot, app)
        await dialog(pilot, app, "X")
        assert "steps since the start of the run" in screen_text(app)
        await pilot.press(*"learn", "enter")
        await until(pilot, lambda: "over learning_rate" in screen_text(app))
        assert (app.settings.x_axis, app.settings.x_metric) == ("metric", "learning_rate")
        await pilot.press("x")
        assert scene(app).axis == "step"
        await pilot.press("x")
        assert scene(app).axis == "metric", "it takes its turn from now on"
        await dialog(pilot, app, "X")
        await pilot.press(*"since", "enter")
        await until(pilot, lambda: "over steps since the start" in screen_text(app))
        await pilot.press("L")
        await until(pilot, lambda: "since the start (log)" in screen_text(app))


# -- without the list --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=str)
async def test_the_list_is_hidden_and_comes_back(size: tuple[int, int]) -> None:
    app = still_app(view("r"), view("other"), detail=many_metrics(4))
    async with app.run_test(size=size) as pilot:
        await on_charts(pilot, app)
        wide = grid(app).size.area
        await pilot.press("H")
        await until(pilot, lambda: grid(app).size.area > wide)
        assert not app.query_one(RunList).is_on_screen
        assert grid(app).size.width == size[0]
        assert not app.settings.run_list
        await pilot.press("tab", "slash", *"oth", "enter")
        await until(pilot, lambda: app.query_one(RunList).is_on_screen)
        assert app.selected is not None
        assert app.selected.run_id == "other"


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=str)
async def test_a_renamed_run_keeps_its_id_in_sight(size: tuple[int, int]) -> None:
    run_id = "hybrid-25m_20260921_131320"
    app = still_app(view(run_id, label="a name that somebody typed " * 4))
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: f"({run_id})" in screen_text(app))


async def test_a_metric_named_by_commands_to_the_terminal_is_shown_without_them() -> None:
    odd = "a\x1b[2Jb\nc"
    keys = ("loss", "val_loss", odd, f"{odd}/x", f"{odd}/y")
    found = {key: series(key, np.arange(9.0)) for key in keys}
    detail = RunDetail("r", found["loss"], found["val_loss"], series=found, version=1)
    app = still_app(view("r"), detail=detail)
    async with app.run_test(size=LARGE) as pilot:
        await on_charts(pilot, app)
        await until(pilot, lambda: f"▾ {one_line(odd)}/  2 charts" in screen_text(app))
        made = (metric_dialog(scene(app)), main_dialog(scene(app)), axis_dialog(scene(app)))
        for screen in made:
            assert odd in [one.value.removeprefix("metric:") for one in screen.choices]
            for one in screen.choices:
                assert all(text.isprintable() for text in (one.name, one.remark, *one.also))
        hits = [hit async for hit in ActionProvider(app.screen).search("chart of a")]
        assert all(str(hit.text).isprintable() for hit in hits)
        hit = next(hit for hit in hits if hit.text == f"chart of {one_line(odd)}")
        hit.command()
        assert scene(app).key == odd, "it is still known by its own name"
        await dialog(pilot, app, "X")
        await pilot.press(*"2jb c", "enter")
        await until(pilot, lambda: app.settings.x_metric == odd)
        await until(pilot, lambda: f"over {one_line(odd)}" in screen_text(app))
