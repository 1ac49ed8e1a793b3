"""Drawing without an app: what is in the numbers is on the canvas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.data.envelope import choose_scale, reduce, step_range
from monitor.widgets.chart import (
    Cell,
    draw_canvas,
    phase_columns,
    polylines,
    row_of,
    short_step,
    step_ticks,
    tick_labels,
)
from monitor.widgets.raster import BLANK, braille, merge
from shared.metrics_log import Series
from shared.records import PhaseTransition
from tests.monitor.support import series

COLUMNS, ROWS = 60, 10


def canvas(*found: Series) -> list[list[Cell]]:
    first, last = step_range(found) or (0, 0)
    envelopes = [reduce(s, 2 * COLUMNS, first, last) for s in found]
    return draw_canvas(envelopes, choose_scale(envelopes), COLUMNS, ROWS)


def column(grid: list[list[Cell]], x: int) -> str:
    return "".join(row[x][0] for row in grid)


def drawn(grid: list[list[Cell]]) -> bool:
    return any(c != BLANK for row in grid for c, _ in row)


def test_dots_land_where_they_are_meant() -> None:
    corners = [([x], [y]) for x in (0, 13) for y in (0, 15)]
    lines = braille(corners, 7, 4)
    assert lines[0] == "⠁" + BLANK * 5 + "⠈"
    assert lines[3] == "⡀" + BLANK * 5 + "⢀"
    assert merge("⠁", "⡀") == "⡁"


@pytest.mark.parametrize(
    ("bad", "mark", "at"),
    [(math.nan, "✕", 0), (math.inf, "▲", 0), (-math.inf, "▼", -1), (1e9, "▲", 0), (-1e9, "▼", -1)],
)
def test_one_bad_step_in_a_million_is_seen(bad: float, mark: str, at: int) -> None:
    values = 2 + np.sin(np.arange(1_000_000) / 1e5)
    values[765_432] = bad
    grid = canvas(Series("loss", np.arange(1_000_000), values))
    marked = [x for x in range(COLUMNS) if grid[at][x][0] == mark]
    assert marked == [765_432 * COLUMNS // 1_000_000]
    assert grid[at][marked[0]][1] == ("outside" if math.isfinite(bad) else "nonfinite")


def test_a_spike_within_the_scale_reaches_its_height() -> None:
    values = np.linspace(3, 2, 1_000_000)
    values[500_000] = 4.0
    grid = canvas(Series("loss", np.arange(1_000_000), values))
    assert [x for x in range(COLUMNS) if grid[0][x][0] != BLANK] == [30]


def test_a_curve_is_not_joined_across_a_divergence() -> None:
    values = np.ones(120)
    values[50:60] = np.nan
    envelope = reduce(series("x", values), 120, 0, 119)
    assert len(polylines(envelope, choose_scale([envelope]), ROWS)) == 2


@pytest.mark.parametrize(
    "values",
    [[], [1.0], [1.0] * 50, [0.0] * 3, [math.nan], [math.inf, -math.inf], [1e308, -1e308],
     [5e-324, 1e-323], [-1e300, 0, 1e300], [1e-12, 2e-12]],
)  # fmt: skip
def test_odd_series_are_drawn(values: list[float]) -> None:
    found = series("x", values)
    assert drawn(canvas(found)) == bool(values)


numbers = st.lists(st.floats(width=64), max_size=60)


@settings(max_examples=40, deadline=None)
@given(numbers, numbers)
def test_any_two_series_can_be_drawn(train: list[float], val: list[float]) -> None:
    found = (series("loss", train), series("val_loss", val, 7))
    grid = canvas(*found)
    assert [len(row) for row in grid] == [COLUMNS] * ROWS
    bad = sum(not math.isfinite(v) for v in (*train, *val))
    assert any(name == "nonfinite" for row in grid for _, name in row) == bool(bad)


def test_measured_validation_lies_on_top_and_what_joins_it_below() -> None:
    grid = canvas(series("loss", np.ones(60)), series("val_loss", [1.0, 1.0, 1.0], 25))
    (row,) = [row for row in grid if any(c != BLANK for c, _ in row)]
    assert [x for x, (_, name) in enumerate(row) if name == "val"] == [0, 25, 50]
    apart = canvas(series("loss", np.ones(60)), series("val_loss", [2.0, 2.0, 2.0], 25))
    assert sum(name == "val" for row in apart for c, name in row if c != BLANK) == 51


def test_labels_share_their_decimals() -> None:
    assert tick_labels([0.0, 2.5, 5.0]) == ["0", "2", "5"] or tick_labels([0.0, 0.5]) == [
        "0.0",
        "0.5",
    ]
    assert tick_labels([1.0, 1.5, 2.0]) == ["1.0", "1.5", "2.0"]
    assert tick_labels([0, 1e6]) == ["0", "1e6"]
    assert tick_labels([0.0001, 0.0002]) == ["0.0001", "0.0002"]


def test_steps_are_short_and_exact() -> None:
    assert [short_step(s) for s in (0, 999, 9999, 10_000, 12_500, 3_000_000, 1_234_567)] == [
        "0", "999", "9999", "10k", "12.5k", "3M", "1.235M",
    ]  # fmt: skip


def test_step_ticks_of_a_short_run() -> None:
    assert step_ticks(7, 7, 60) == [7]
    assert step_ticks(0, 1, 60) == [0, 1]
    assert all(0 <= t <= 1000 for t in step_ticks(0, 1000, 60))


def test_a_value_is_drawn_in_the_row_of_its_label() -> None:
    flat = series("x", [2.0] * 100 + [1.0] * 100 + [3.0] * 100)
    envelope = reduce(flat, 2 * COLUMNS, 0, 299)
    scale = choose_scale([envelope])
    grid = draw_canvas([envelope], scale, COLUMNS, ROWS)
    for value, x in ((2.0, 10), (1.0, 30), (3.0, 50)):
        row = row_of(value, scale, ROWS)
        assert [y for y in range(ROWS) if grid[y][x][0] != BLANK] == [row]


def test_phases_fill_their_columns() -> None:
    transitions = [
        PhaseTransition(50, "warmup", "full", 0.0),
        PhaseTransition(0, "", "warmup", 0.0),
    ]
    assert phase_columns(transitions, 0, 99, 4) == ["warmup", "warmup", "full", "full"]
    assert phase_columns([], 0, 99, 2) == ["", ""]
