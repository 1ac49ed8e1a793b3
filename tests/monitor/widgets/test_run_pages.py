"""Pages of lines: nothing is cut that there is room for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from monitor.data.views import EventView, RunDetail, RunView
from tests.monitor.support import NOW, screen_text, series, still_app, view

Showcase = tuple[tuple[RunView, ...], RunDetail]


async def page(key: str, run: RunView, detail: RunDetail, size: tuple[int, int]) -> str:
    app = still_app(run, detail=detail)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        await pilot.press(key)
        await pilot.pause()
        return screen_text(app)


def with_events(*events: EventView) -> tuple[RunView, RunDetail]:
    loss = series("loss", np.linspace(3, 1, 200))
    detail = RunDetail("run_1", loss, series("val_loss", []), version=1, events=events)
    return view("run_1"), detail


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_kinds_of_events_are_told_in_full(size: tuple[int, int]) -> None:
    run, detail = with_events(
        EventView(NOW, 1, "checkpoint compressed", "step_1"),
        EventView(NOW, 2, "checkpoint corrupt", "step_2"),
    )
    for key in "5d3" if size[0] < 120 else "53":  # the details are there already
        shown = await page(key, run, detail, size)
        assert "checkpoint corrupt  step_2" in shown or "checkpoint corrupt     step_2" in shown
        assert "checkpoint compr…" not in shown
    assert "checkpoint compressed  step_1" in await page("5", run, detail, size)
    run, detail = with_events(EventView(NOW, 1, "x" * 70, "what happened"))
    assert "what happened" in await page("5", run, detail, size)


async def test_a_sample_is_one_line_among_events() -> None:
    said = "Once upon a time   there     was a loss. " * 20
    run, detail = with_events(
        EventView(NOW, 1, "sample", said), EventView(NOW, 2, "warning", "word " * 40)
    )
    lines = (await page("5", run, detail, (120, 40))).split("\n")
    assert sum("upon" in line for line in lines) == 1
    assert sum("word word" in line for line in lines) >= 2, "what is no sample is told in full"
    assert any("Once upon a time there was a loss. Once" in line for line in lines)


@pytest.mark.parametrize("width", [60, 80])
async def test_figures_are_told_to_the_end(showcase: Showcase, width: int) -> None:
    runs, detail = showcase
    late = dataclasses.replace(
        detail,
        loss=dataclasses.replace(detail.loss, steps=detail.loss.steps + 1_000_000),
        val_loss=dataclasses.replace(detail.val_loss, steps=detail.val_loss.steps + 1_000_000),
    )
    told = " ".join((await page("3", runs[0], late, (width, 24))).split())
    assert "val minus train at 1,004,000" in told
    assert "since last" in told
    assert "…" not in told.partition("gradient norm")[0].partition("slope")[2]


@pytest.mark.parametrize("status", ["paused", "completed", "running"])
async def test_head_and_list_agree_on_the_time_left(status: str) -> None:
    run = view("a", status=status, alive=status != "completed", eta_seconds=7500.0, max_steps=9)
    app = still_app(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        lines = screen_text(app).split("\n")
        row = next(line for line in lines if line.startswith("▌"))
        head = next(line for line in lines if "step 0 / 9" in line)
        assert row.rstrip().endswith("2h05m" if status == "running" else "-")
        assert ("left 2h05m" in head) is (status == "running")
