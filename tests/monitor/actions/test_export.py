"""What is exported is what is shown, and nothing is replaced unasked."""

from __future__ import annotations

import csv
import dataclasses
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from monitor.actions.export import (
    CSV,
    PNG,
    SVG,
    TEXT,
    Chart,
    ExportChoice,
    chart_of,
    export,
    is_taken,
    propose,
    why_not_here,
)
from monitor.chart_state import ChartState
from monitor.data.views import EventView, RunDetail, RunView
from monitor.plots.curves import CurveStore
from monitor.plots.scene import Scene
from shared.charts.colours import LIGHT
from shared.charts.figure import Figure
from shared.charts.picture import HEIGHT, WIDTH
from shared.charts.png import SCALE
from shared.charts.window import Window
from shared.errors import UserError
from shared.run.directory import RunDirectory
from shared.run.metrics_rows import Series
from shared.run.records import PhaseTransition
from shared.run.sketch import Sketch, write_sketch
from tests.monitor.actions.making import look
from tests.monitor.support import series, view


def detail(run_id: str, *found: Series, **fields: object) -> RunDetail:
    by_key = {s.key: s for s in found}
    empty = series("loss", [])
    return RunDetail(run_id, by_key.get("loss", empty), empty, by_key, **fields)  # type: ignore[arg-type]


def scene(*shown: tuple[RunView, RunDetail], **state: object) -> Scene:
    return Scene(shown, ChartState(**state), CurveStore())  # type: ignore[arg-type]


def chart(*found: Series, steps: tuple[int, int] | None = None, **state: object) -> Chart:
    if steps is not None:
        state |= {"span": float(steps[1] - steps[0]), "end": float(steps[1])}
    seen = scene((view("demo_1"), detail("demo_1", *found)), **state)
    return chart_of(seen, seen.key)


LOSS, VAL = series("loss", np.linspace(3, 1, 100)), series("val_loss", np.linspace(3, 1, 10), 10)


def test_an_svg_shows_every_curve_in_its_window(run: RunDirectory, tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    told = export(look(run), ExportChoice(SVG, path), chart(LOSS, VAL, steps=(50, 99)))
    assert told.startswith(f"Wrote {path} (")
    root = ET.parse(path).getroot()
    words = [e.text for e in root.iter() if e.text and e.text.strip()]
    assert {"loss", "val_loss", "demo_1"} <= set(words)
    assert "10" not in words, "the axis begins with the window"


def test_an_svg_is_the_chart_as_it_is_looked_at(run: RunDirectory, tmp_path: Path) -> None:
    """Axis, scales, average, phases and marks included."""
    loss = series("loss", [3.0, np.nan, *np.linspace(3, 1, 98)])
    clock = series("time", np.arange(100) * 60.0 + 1e9)
    transitions = (
        PhaseTransition(0, "", "warmup", 1e9),
        PhaseTransition(50, "warmup", "full", 1e9),
    )
    happened = (EventView(1e9, 70, "rolled back", "from step 70 to 60"),)
    shown = dataclasses.replace(detail("demo_1", loss), events=happened)
    shown = dataclasses.replace(shown, series={**shown.series, "time": clock})
    seen = scene(
        (view("demo_1", transitions=transitions), shown), axis="time", weight=0.9,
        log_y=frozenset({"loss"}),
    )  # fmt: skip
    made = chart_of(seen, "loss")
    path = tmp_path / "a.svg"
    export(look(run), ExportChoice(SVG, path), made)
    root = ET.parse(path).getroot()
    words = [e.text for e in root.iter() if e.text and e.text.strip()]
    assert {"time", "warmup", "full", "rolled back", "1 NaN or inf"} <= set(words)
    assert "moving average 0.9 over the raw values" in words
    assert any("h" in word for word in words if word[0].isdigit()), "hours on the axis"
    assert "rolled back at step 70: from step 70 to 60" in words
    strengths = [
        e.get("stroke-opacity")
        for e in root.iter()
        if e.get("stroke") == LIGHT["train"] and len(e.get("d", "")) > 100
    ]
    assert strengths == ["0.3", None], "the values faintly, the average over them"


def test_an_overlay_names_the_runs(run: RunDirectory, tmp_path: Path) -> None:
    shown = [(view(x), detail(x, LOSS)) for x in ("one", "two & <three>")]
    made = chart_of(scene(*shown), "loss")
    assert made.figure.title == "loss"
    assert [curve.label for curve in made.figure.curves] == ["one", "two & <three>"]
    path = tmp_path / "b.svg"
    export(look(run), ExportChoice(SVG, path), made)
    assert "two &amp; &lt;three&gt;</text>" in path.read_text()


def test_a_png_is_one(run: RunDirectory, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    export(look(run), ExportChoice(PNG, path), chart(LOSS, VAL))
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert struct.unpack(">II", data[16:24]) == (SCALE * WIDTH, SCALE * HEIGHT)
    window = tmp_path / "b.png"
    export(look(run), ExportChoice(PNG, window), chart(LOSS, steps=(10, 20)))
    assert window.read_bytes() != data
    nothing = tmp_path / "c.png"
    export(look(run), ExportChoice(PNG, nothing), chart(series("loss", [np.nan] * 100)))
    red = np.array(ImageColor.getrgb(LIGHT["nonfinite"]))
    pixels = np.asarray(Image.open(nothing).convert("RGB")).astype(np.int64)
    assert (np.abs(pixels - red).sum(axis=2) < 60).sum() > 100, "marks where the values are"


def test_a_png_of_an_overlay_has_every_curve_in_a_colour_of_its_own(
    run: RunDirectory, tmp_path: Path
) -> None:
    levels = {"one": 1.0, "two": 2.0, "three": 3.0}
    shown = [(view(x), detail(x, series("loss", [y] * 50))) for x, y in levels.items()]
    path = tmp_path / "a.png"
    export(look(run), ExportChoice(PNG, path), chart_of(scene(*shown), "loss"))
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(np.int64)
    rows = [
        int(np.nonzero(np.abs(pixels - color).sum(axis=2).min(axis=1) < 60)[0].max())
        for color in ((0, 114, 178), (230, 159, 0), (0, 158, 115))
    ]
    assert rows[0] > rows[1] > rows[2], "a greater loss lies higher"


def test_the_numbers_and_the_page(run: RunDirectory, tmp_path: Path) -> None:
    told = export(look(run), ExportChoice(CSV, tmp_path / "a.csv"))
    assert "501 rows, 3 columns" in told
    rows = list(csv.reader((tmp_path / "a.csv").open()))
    assert rows[0][:2] == ["step", "loss"]
    assert len(rows) == 502
    export(look(run), ExportChoice(TEXT, tmp_path / "a.txt"))
    assert "step_500" in (tmp_path / "a.txt").read_text()


def test_nothing_is_replaced_unasked(run: RunDirectory, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("mine")
    choice = ExportChoice(TEXT, path)
    assert is_taken(choice)
    assert why_not_here(choice) == ""
    with pytest.raises(UserError, match="already exists; export it again to replace it"):
        export(look(run), choice)
    assert path.read_text() == "mine"
    export(look(run), ExportChoice(TEXT, path, force=True))
    assert "demo" in path.read_text()


def test_a_place_that_will_not_do_says_why(tmp_path: Path) -> None:
    assert "is a folder" in why_not_here(ExportChoice(SVG, tmp_path))
    assert "no folder" in why_not_here(ExportChoice(SVG, tmp_path / "x" / "y.svg"))


def test_a_chart_that_is_not_all_there_is_not_exported(run: RunDirectory, tmp_path: Path) -> None:
    choice = ExportChoice(SVG, tmp_path / "a.svg")
    for shown in (detail("d", LOSS, loading=0.4), detail("d", LOSS, approximate=True)):
        with pytest.raises(UserError, match="still being read"):
            export(look(run), choice, chart_of(scene((view("d"), shown)), "loss"))
    with pytest.raises(UserError, match="no chart"):
        export(look(run), choice, Chart(Figure([], Window(0, 0))))


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("demo_1", "demo_1-loss.svg"),
        ("../../etc/[/] x\x1b[2J", "etc-x-2J-loss.svg"),
        ("界隈", "run_1-loss.svg"),
    ],
)
def test_the_name_that_is_proposed_is_harmless(label: str, expected: str) -> None:
    assert propose(view(label=label), SVG, chart(LOSS)) == expected
    assert propose(view("demo_1"), CSV) == "demo_1.csv"


@pytest.mark.parametrize("kind", [CSV, TEXT])
def test_what_is_not_here_in_full_is_not_exported(
    run: RunDirectory, tmp_path: Path, kind: str
) -> None:
    write_sketch(run.metrics_path, Sketch(1 << 30, 1, ()))
    with pytest.raises(UserError, match="still being read"):
        export(look(run), ExportChoice(kind, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
