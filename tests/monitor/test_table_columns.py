"""The table's columns, cells and order: what is chosen, found, shown, and sorted by."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.actions.export import TABLE, ExportChoice
from monitor.actions.table import chunks, export_table
from monitor.data.outline import Extent, Outline, read_outline
from monitor.data.views import RunView
from monitor.list_order import Group, ListOrder, arrange
from monitor.table.columns import FIRST, Cell, Choice, Column, cell, offered, titles
from monitor.table.rows import Rows
from monitor.table.state import NAME, TableState
from shared.errors import UserError
from shared.export.cells import safe_cell
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.monitor.support import view

RATE, SEED = Column("config", "optim.learning_rate"), Column("config", "train.seed")
LOWEST = Column("min", "val_loss")


def outline(rate: str, lowest: float | None = None, **settings: str) -> Outline:
    """A run with this learning rate, the lowest validation loss, and other settings."""
    metrics = {} if lowest is None else {"val_loss": Extent(lowest + 1, lowest, lowest + 2)}
    return Outline({"optim.learning_rate": rate, **settings}, metrics)


RUNS = (view("a", name="x"), view("b", name="y", tags=("old",)), view("c", name="x"), view("d"))
OUTLINES = {
    "a": outline("9", 2.5),
    "b": outline("1e-4", 1.5),
    "c": outline("10", math.nan),
    "d": outline("auto"),
}


def ids(column: Column | None, *, descending: bool = False, grouped: bool = False) -> str:
    """The runs in the order of a column."""
    state = TableState(sort=NAME if column is None else column.spec, descending=descending)
    columns = (*FIRST, RATE, LOWEST)
    listing = arrange(RUNS, ListOrder(grouped=grouped))
    found = Rows().arranged(listing, OUTLINES, columns, state)
    assert {run.run_id for run in found.runs} == {"a", "b", "c", "d"}
    return " ".join(f"[{r.name}]" if isinstance(r, Group) else r.run_id for r in found.rows)


def test_numbers_are_sorted_as_numbers_and_what_is_missing_comes_last() -> None:
    assert ids(RATE) == "b a c d", "text comes after numbers"
    assert ids(RATE, descending=True) == "d c a b"
    assert ids(LOWEST) == "b a c d"
    assert ids(LOWEST, descending=True) == "a b c d", "NaN and nothing stay at the end"
    assert ids(None) == "a b c d"
    assert ids(None, descending=True) == "d c b a"
    assert ids(RATE, grouped=True) == "[x] a c [y] b [d] d", "within each group"


def test_sorting_by_a_column_turns_round_and_ends() -> None:
    state = TableState()
    seen = []
    for _ in range(4):
        state = state.sorted_by(RATE.spec)
        seen.append((state.sort, state.descending))
    assert seen == [(RATE.spec, False), (RATE.spec, True), ("", False), (RATE.spec, False)]
    assert state.sorted_by(NAME, descending=True) == TableState(sort=NAME, descending=True)


def test_a_heading_is_as_much_of_a_key_as_tells_it_from_others() -> None:
    keys = ("optim.learning_rate", "critic.optim.learning_rate", "train.seed", "seed", "lr")
    assert titles([Column("config", key) for key in keys]) == [
        "optim.learning_rate",
        "critic.optim.learning_rate",
        "train.seed",
        "seed",
        "lr",
    ]
    assert titles([RATE, LOWEST, Column("last", "mfu"), Column("run", "best_step")]) == [
        "learning_rate",
        "min val_loss",
        "mfu",
        "best step",
    ]


def test_the_usual_columns_are_settings_that_differ() -> None:
    shared = {"model.layers": "4", "data.path": "/x", "train.seed": "1"}
    found = {
        str(i): outline(str(i % 3), **{**shared, "data.path": f"/{i}", "train.seed": str(i)})
        for i in range(9)
    }
    assert Choice().columns((), found, 9) == (*FIRST, RATE, SEED)
    assert Choice().columns((), {}, 9) == FIRST
    assert Choice().columns((SEED.spec, "nonsense", SEED.spec), found, 9) == (SEED,)
    early = Choice()
    assert early.columns((), {"0": found["0"]}, 9) == FIRST, "too few to judge by"
    assert early.columns((), found, 9) == (*FIRST, RATE, SEED)


@given(st.text(max_size=30))
def test_no_text_is_a_column_by_accident(text: str) -> None:
    column = Column.parse(text)
    assert column is None or column.spec == text
    named = Column.parse(f"config:{text}")
    assert (named is None) is (not text)
    if named is not None:
        there = cell(named, RUNS[0], Outline({text: "a value"}))
        assert there == Cell("a value", "a value")
        assert cell(named, RUNS[0], Outline({f"{text}.other": "1"})) == Cell(None, "")


def test_every_column_of_a_run_has_its_cell() -> None:
    bare, full = RunView("x", Path("x"), "x", "x", "idle", "", alive=False), RUNS[0]
    for column in offered(OUTLINES):
        for run in (bare, full):
            found = cell(column, run, OUTLINES["a"])
            assert (found.value is None) is (found.text == "")
            assert "\n" not in found.text


def test_an_outline_is_read_from_the_run_s_files(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="r") as writer:
        writer.write_config({"optim": {"learning_rate": 3e-4}, "tags": ["a", "b"]})
        for step, loss in enumerate((3.0, 1.0, math.nan, 2.0), 1):
            writer.log(step, loss=loss, accuracy=step / 10)
    found = read_outline(writer.run)
    assert found.config == {"optim.learning_rate": "0.0003", "tags": "[a, b]"}
    assert found.metrics["loss"] == Extent(2.0, 1.0, 3.0)
    assert found.metrics["accuracy"] == Extent(0.4, 0.1, 0.4)
    assert not found.approximate
    assert read_outline(writer.run, found) is found
    assert read_outline(writer.run, metrics=False).metrics == {}
    assert read_outline(RunDirectory(tmp_path / "none")).config == {}


def test_no_value_of_an_abandoned_attempt_counts(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "r")
    run.path.mkdir()
    lines = [f'{{"step": {s}, "loss": {9 - s}, "attempt": 1}}\n' for s in range(1, 9)]
    lines += [f'{{"step": {s}, "loss": {20 - s}, "attempt": 2}}\n' for s in range(3, 5)]
    run.metrics_path.write_text("".join(lines))
    for exact in (False, True):
        assert read_outline(run, exact=exact).metrics["loss"] == Extent(16.0, 7.0, 17.0)


def test_the_extremes_of_a_long_log_are_approximate_until_it_is_read(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "r")
    run.path.mkdir()
    text = "".join(f'{{"step": {s}, "loss": {3 + s % 7}}}\n' for s in range(12_000))
    at = text.index('{"step": 7777,')
    lowest = text[:at] + text[at:].replace('"loss": 3', '"loss": 1', 1)
    run.metrics_path.write_text(lowest)
    found = read_outline(run)
    assert found.approximate
    assert found.can_be_exact
    column = Column("min", "loss")
    assert cell(column, RUNS[0], found).text == "≈3.000"
    exact = read_outline(run, found, exact=True)
    assert cell(column, RUNS[0], exact).text == "1.000"
    assert read_outline(run, exact) is exact


def test_the_table_as_csv(tmp_path: Path) -> None:
    runs = (
        view("a", label="=1+1", tags=("x", "y")),
        view("b", label="plain"),
        view("c", label="-2.5"),
    )
    found = {
        "a": outline("@SUM(A1)", 1 / 3),
        "b": Outline({"optim.learning_rate": "-3e-4"}, OUTLINES["a"].metrics, approximate=True),
    }
    text = b"".join(chunks(runs, found, (Column("run", "step"), RATE, LOWEST))).decode()
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["run_id", "label", "tags", "run:step", RATE.spec, LOWEST.spec, "approximate"]
    assert rows[1] == ["a", "'=1+1", "x y", str(runs[0].step), "'@SUM(A1)", repr(1 / 3), ""]
    assert rows[2][4:] == ["-0.0003", "2.5", LOWEST.spec]
    assert rows[3][4:] == ["", "", ""]
    path = tmp_path / "runs.csv"
    told = export_table(runs, found, (RATE,), ExportChoice(TABLE, path))
    assert told.startswith(f"Wrote {path} (3 runs, 4 columns, ")
    with pytest.raises(UserError, match="export it again to replace it"):
        export_table(runs, found, (RATE,), ExportChoice(TABLE, path))


@given(st.text())
def test_no_cell_is_a_formula(text: str) -> None:
    safe = safe_cell(text)
    assert safe in (text, "'" + text)
    if safe[:1] in ("=", "+", "-", "@", "\t", "\r"):
        float(safe)


def test_what_is_swept_comes_first() -> None:
    outlines = {
        name: Outline({"model.depth": depth, "optim.learning_rate": rate, "train.seed": "1"})
        for name, depth, rate in (("a", "1", "0.1"), ("b", "2", "0.2"))
    }
    swept = ("optim.learning_rate", "train.seed")
    choice = Choice()
    shown = choice.columns((), outlines, 2, swept)
    assert shown == (*FIRST, RATE, SEED, Column("config", "model.depth"))
    assert choice.columns((), outlines, 2) == (*FIRST, Column("config", "model.depth"), RATE)
    assert offered(outlines, swept)[:2] == [RATE, SEED]
    assert len(set(offered(outlines, swept))) == len(offered(outlines, swept))
    assert choice.columns(("run:loss",), outlines, 2, swept) == (Column("run", "loss"),), "chosen"
