"""The grid of charts in the running app: the cost of redrawing all charts and of a crosshair move.

The screen is 200x50 cells with sixteen metrics of a million steps each, two of them losses. A frame
starts with the key or the new data and ends with the strips sent to the terminal.

    python -m benchmarks.monitor_grid [--quick]
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.record import Hold, Result, Row, run_alone
from monitor.chart_state import ChartState
from monitor.data.views import RunDetail, RunView
from monitor.widgets.chart_grid import ChartGrid
from shared.run.metrics_rows import Series

GRID_MS = 50.0
CHARTS = 16
SIZE = (200, 50)


def loss_like(key: str, points: int, seed: int) -> Series:
    """A falling, noisy curve with one spike and one NaN."""
    noise = np.random.default_rng(seed)
    steps = np.arange(points)
    values = 1.5 + 3 * np.exp(-steps / (points / 10)) + noise.normal(0, 0.15, points)
    values[points // 3], values[points // 2] = 6.0, np.nan
    return Series(key, steps, values)


def run_of(points: int, name: str = "run") -> tuple[RunView, RunDetail]:
    """A run of so many steps."""
    from pathlib import Path

    found = {key: loss_like(key, points, i) for i, key in enumerate(_keys())}
    nothing = Series("val_loss", np.empty(0, np.int64), np.empty(0))
    detail = RunDetail(name, found["loss"], nothing, series=found, version=1)
    return RunView(name, Path(name), name, name, "running", "", True), detail


def _keys() -> list[str]:
    return ["loss", *(f"metric_{i}" for i in range(1, CHARTS))]


async def _frames(points: int, rounds: int) -> list[Row]:
    from textual.app import App, ComposeResult

    from monitor.theme import THEMES

    class Screen(App[None]):
        CSS = "ChartGrid { height: 1fr; }"

        def compose(self) -> ComposeResult:
            yield ChartGrid(id="grid")

    app = Screen()
    app.register_theme(THEMES["night"])
    app.theme = "night"
    async with app.run_test(size=SIZE) as pilot:
        grid = app.query_one(ChartGrid)
        runs = [run_of(points)]

        def timed(change: Callable[[int], ChartState], *, fresh: bool) -> float:
            best = float("inf")
            for i in range(rounds):
                if fresh:
                    view, detail = runs[0]
                    runs[0] = (view, dataclasses.replace(detail, version=detail.version + 1))
                began = time.perf_counter()
                grid.show(runs, change(i))
                while True:  # a page is drawn in slices
                    grid.redraw()
                    if grid.is_settled:
                        break
                best = min(best, time.perf_counter() - began)
            return 1000 * best

        grid.show(runs, ChartState())
        await pilot.pause()
        assert len(grid.arrangement.places) == CHARTS
        what = f"{CHARTS} charts of {points / 1e6:g}M steps on {SIZE[0]}x{SIZE[1]}"
        rows = [Row(f"{what}, new data", timed(lambda _: ChartState(), fresh=True), "ms")]
        smooth = ChartState(weight=0.99)
        timed(lambda _: smooth, fresh=False)
        rows.append(Row(f"{what}, new data, smoothed", timed(lambda _: smooth, fresh=True), "ms"))

        def zoomed(i: int) -> ChartState:
            return ChartState(span=points / (2 + i), end=points * 0.7)

        rows.append(Row(f"{what}, zoomed", timed(zoomed, fresh=False), "ms"))

        def pointed(i: int) -> ChartState:
            return ChartState(crosshair=points * (0.3 + i / 100))

        rows.append(Row(f"{what}, crosshair moved", timed(pointed, fresh=False), "ms"))

        def cursor(i: int) -> ChartState:
            return ChartState(cursor=_keys()[i % CHARTS])

        rows.append(Row(f"{what}, cursor moved", timed(cursor, fresh=False), "ms"))
        return rows


def measure(*, quick: bool = False) -> Result:
    """All of it."""
    rows = asyncio.run(_frames(100_000 if quick else 1_000_000, 8 if quick else 25))
    worst = max(row.value for row in rows)
    number = f"{CHARTS} charts redrawn in the app in ≤ {GRID_MS:g} ms"
    return Result(rows, [Hold(number, f"{worst:.1f} ms at worst", worst <= GRID_MS)])


if __name__ == "__main__":
    sys.exit(run_alone(__doc__, measure))
