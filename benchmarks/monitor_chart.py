"""The monitor's chart: our canvas against plotext, and a complete redraw.

Both canvases draw the same envelopes at the same size, in turns. plotext gets finished polylines
and returns lines of text without marks; ours starts from the envelopes and returns coloured
segments with marks. A redraw starts from the pyramids of a training and a validation curve and
ends with Textual strips: envelopes, scale, smoothed line, marks, phases, axes and legend.

    python -m benchmarks.monitor_chart [--quick]
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.monitor_start import LINE, write_metrics
from benchmarks.record import Hold, Result, Row, run_alone
from monitor.chart.canvas import Layer, draw_canvas
from monitor.chart.frame import Plot, draw
from monitor.data.pyramid import Pyramid, PyramidBuilder
from monitor.data.skim import skim
from monitor.data.smoothing import Smoother
from shared.charts.figure import Curve, Figure
from shared.charts.marks import SIGNS, Mark
from shared.charts.phases import Band
from shared.charts.reduce import reduce
from shared.charts.scale import ValueScale
from shared.charts.window import Window
from shared.run.metrics_rows import Series

CHARTS, CHART_SIZE = 16, (40, 10)
REDRAW_MS, GRID_MS, SKIM_MS = 3.0, 50.0, 10.0
SIZES = ((40, 10), (110, 26), (220, 60))


def milliseconds(call: Callable[[], object], rounds: int) -> float:
    """The best of `rounds`, after one that warms the caches."""
    call()
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return 1000 * best


def loss_like(points: int, seed: int = 0) -> Series:
    """A falling, noisy curve with one spike and one NaN."""
    noise = np.random.default_rng(seed)
    steps = np.arange(points)
    values = 1.5 + 3 * np.exp(-steps / (points / 10)) + noise.normal(0, 0.15, points)
    values[points // 3], values[points // 2] = 6.0, np.nan
    return Series("loss", steps, values)


def measured(train: Series, count: int = 40) -> Series:
    """A validation curve of `count` points."""
    steps = np.linspace(0, len(train) - 1, count).astype(np.int64)
    return Series("val_loss", steps, 1.6 + 3 * np.exp(-steps / (len(train) / 10)))


def plot_of(train: Pyramid, val: Pyramid, smooth: np.ndarray[Any, Any]) -> Plot:
    """A chart with all that can be on it."""
    last = int(train.series.steps[-1])
    figure = Figure(
        (Curve("loss", "train", train, smooth=smooth), Curve("val", "val", val)),
        Window(0, last),
        bands=[Band(0, "phase-warmup"), Band(last // 9, "phase-full")],
        marks=[Mark(i * last / 5, SIGNS["checkpoint_saved"]) for i in range(5)],
    )
    return Plot(figure, crosshair=last * 0.6)


# -- the peer ------------------------------------------------------------------------------


def polylines(envelope: Any, scale: ValueScale, rows: int) -> tuple[list[float], list[float]]:
    """The extent of every column as one line, in dots."""
    low, high = scale.dots(envelope.low, rows), scale.dots(envelope.high, rows)
    xs: list[float] = []
    ys: list[float] = []
    for x in np.flatnonzero(np.isfinite(low)).tolist():
        xs += [float(x), float(x)]
        ys += [float(low[x]), float(high[x])]
    return xs, ys


def plotext_lines(
    polylines: list[tuple[list[float], list[float]]], width: int, height: int
) -> list[str]:
    """What plotext makes of them: lines of braille."""
    import plotext

    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.axes(False)
    figure.legend(False)
    figure.canvas("default")
    for axis, dots, margin in (("x", 2 * width, 0.5), ("y", 4 * height, 1.5)):
        figure.ruler(axis).frequency(0)
        figure.ruler(axis).lim(margin, dots - 1 - margin)
    for xs, ys in polylines:
        signal = figure.signal(xs, ys, marker="braille", xside="lower", yside="left")
        figure.draw(signal.lines(True).density("full", scope="line"))
    drawn: str = figure.build().string(colorless=True)
    return drawn.split("\n")


def canvas_rows(train: Series, val: Series, rounds: int) -> tuple[list[Row], float]:
    """Frames of both canvases; the largest share of plotext's time that ours took."""
    if importlib.util.find_spec("plotext") is None:
        return [], 0.0
    rows: list[Row] = []
    worst = 0.0
    for width, height in SIZES:
        last = int(train.steps[-1])
        layers = [
            Layer(ink, reduce(series, 2 * width, 0, last))
            for ink, series in (("train", train), ("val", val))
        ]
        scale = ValueScale.fit([layer.envelope for layer in layers])
        lines = [polylines(layer.envelope, scale, height) for layer in layers]
        ours = theirs = float("inf")
        for _ in range(3):  # taking turns
            ours = min(
                ours,
                milliseconds(lambda: draw_canvas(layers, scale, width, height).rows(), rounds),  # noqa: B023
            )
            theirs = min(theirs, milliseconds(lambda: plotext_lines(lines, width, height), rounds))  # noqa: B023
        rows.append(Row(f"plotext, {width}x{height}", theirs, "ms"))
        rows.append(Row(f"our canvas, {width}x{height}", ours, "ms", "plotext", ours / theirs))
        worst = max(worst, ours / theirs)
    return rows, worst


# -- the parts -----------------------------------------------------------------------------


def pyramid_rows(points: int, rounds: int) -> list[Row]:
    """An envelope as wide as a large screen, against reducing every value."""
    series = loss_like(points)
    began = time.perf_counter()
    pyramid = PyramidBuilder().update(series)
    built = 1000 * (time.perf_counter() - began)
    last, columns = points - 1, 220
    quick = milliseconds(lambda: pyramid.envelope(0, last, columns), rounds)
    brute = milliseconds(lambda: reduce(series, columns, 0, last), max(2, rounds // 4))
    size = f"{points / 1e6:g}M points"
    return [
        Row(f"pyramid of {size}, built at once", built, "ms"),
        Row(f"envelope of {size} in {columns} columns, every value", brute, "ms"),
        Row(
            f"envelope of {size} in {columns} columns, pyramid",
            quick,
            "ms",
            "every value",
            quick / brute,
        ),
    ]


def append_row(points: int) -> Row:
    """Growing by one value at a time, the new pyramid asked for after each."""
    steps, values = np.arange(points), np.random.default_rng(2).normal(size=points)
    builder = PyramidBuilder()
    began = time.perf_counter()
    for size in range(1, points + 1):
        builder.update(Series("loss", steps[:size], values[:size]))
    micro = 1e6 * (time.perf_counter() - began) / points
    return Row("pyramid, per appended value", micro, "µs")


def redraw_rows(points: int, rounds: int) -> tuple[list[Row], float, float]:
    """One chart of `points`, and a grid of sixteen; their milliseconds."""
    from rich.style import Style
    from textual.app import App

    from monitor.theme import THEMES, colours_of
    from monitor.widgets.canvas_strips import StripMaker

    app: App[object] = App()
    app.register_theme(THEMES["night"])
    app.theme = "night"
    maker = StripMaker(colours_of(app), Style.parse("#d5dce6 on #0f1319"))
    series = [loss_like(points, seed) for seed in range(CHARTS)]
    plots = [
        plot_of(
            PyramidBuilder().update(one),
            PyramidBuilder().update(measured(one)),
            Smoother(0.99).update(one).values,
        )
        for one in series
    ]
    size = f"{points / 1e6:g}M points"
    rows = []
    redraw = 0.0
    for width, height in SIZES:
        spent = milliseconds(lambda: maker.strips(draw(plots[0], width, height)), rounds)  # noqa: B023
        if (width, height) == SIZES[1]:
            redraw = spent
        rows.append(Row(f"redraw of {size}, {width}x{height}, strips included", spent, "ms"))
    drawn = milliseconds(lambda: [draw(plot, *CHART_SIZE) for plot in plots], rounds)
    grid = milliseconds(lambda: [maker.strips(draw(plot, *CHART_SIZE)) for plot in plots], rounds)
    what = f"{CHARTS} charts of {CHART_SIZE[0]}x{CHART_SIZE[1]}, {size} each"
    rows.append(Row(f"{what}, without strips", drawn, "ms"))
    rows.append(Row(f"{what}, strips included", grid, "ms"))
    return rows, redraw, grid


def skim_rows(lines: int, rounds: int) -> tuple[list[Row], float]:
    """The approximate curve of a large file that was just written, so that it is in memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        write_metrics(path, lines * LINE)
        size = path.stat().st_size / 1e9
        spent = milliseconds(lambda: skim(path), rounds)
        found = skim(path)
    return [Row(f"skim of {size:.2g} GB, {found.lines} lines of it", spent, "ms")], spent


def measure(*, quick: bool = False) -> Result:
    """All of it."""
    rounds = 5 if quick else 25
    points = 200_000 if quick else 1_000_000
    train = loss_like(points)
    rows, ratio = canvas_rows(train, measured(train), rounds)
    rows += pyramid_rows(points, rounds)
    if not quick:
        rows += pyramid_rows(10 * points, rounds)
    rows.append(append_row(points // 10))
    smooth = milliseconds(lambda: Smoother(0.99).update(train), rounds)
    rows.append(Row(f"smoothing {points / 1e6:g}M points", smooth, "ms"))
    redraws, redraw, grid = redraw_rows(points, rounds)
    skims, skimmed = skim_rows(200_000 if quick else 4_700_000, rounds)
    holds = [
        Hold(
            f"1M raw points redrawn in ≤ {REDRAW_MS:g} ms", f"{redraw:.1f} ms", redraw <= REDRAW_MS
        ),
        Hold(
            f"{CHARTS} charts redrawn in ≤ {GRID_MS:g} ms, strips included",
            f"{grid:.1f} ms",
            grid <= GRID_MS,
        ),
        Hold(
            f"a curve skimmed from 1 GB in ≤ {SKIM_MS:g} ms",
            f"{skimmed:.1f} ms",
            skimmed <= SKIM_MS,
        ),
    ]
    if ratio:
        holds.insert(0, Hold("our canvas ≤ 1x plotext's time", f"{ratio:.2f}x", ratio <= 1))
    return Result(rows + redraws + skims, holds)


if __name__ == "__main__":
    sys.exit(run_alone(__doc__, measure))
