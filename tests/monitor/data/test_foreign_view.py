"""Settings and metrics of other tools' runs, for the list and the table."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from monitor.actions.table import chunks
from monitor.data.foreign_runs import ForeignRuns
from monitor.data.outline import Extents
from monitor.data.outliner import Outliner, Outlines
from monitor.table.columns import Column, offered
from shared.run.metrics_log import MetricsTable
from tests.shared.foreign.test_databases import mlflow
from tests.waiting import until

RECORD = st.fixed_dictionaries(
    {"step": st.integers(0, 20)},
    optional={"loss": st.floats(), "acc": st.integers(0, 9), "attempt": st.integers(1, 2)},
)


@given(parts=st.lists(st.lists(RECORD, max_size=8), max_size=6))
@example([[{"step": 1, "acc": 0}, {"step": 0, "acc": 0}, {"step": 1}], [{"step": 0, "acc": 1}]])
def test_extents_of_a_growing_table_are_those_of_the_whole(
    parts: list[list[dict[str, Any]]],
) -> None:
    growing, whole, extents = MetricsTable(), MetricsTable(), Extents()
    for records in parts:
        growing.add_records(records)
        extents.of(growing)
    whole.add_records([record for records in parts for record in records])
    assert repr(extents.of(growing)) == repr(Extents().of(growing))
    assert repr(sorted(Extents().of(whole).items())) == repr(sorted(extents.of(growing).items()))


def test_the_table_has_their_settings_and_metrics(tmp_path: Path) -> None:
    mlflow(tmp_path / "mlflow.db", range(3))
    (tmp_path / "mine.jsonl").write_text(
        "".join(
            f'{{"iteration": {s}, "loss": {9 - s}, "val/loss": {s % 3}}}\n' for s in range(1, 6)
        )
    )
    runs = ForeignRuns(tmp_path)
    runs.scan(2e9)
    while runs.more:
        runs.scan(2e9)
    told: list[Outlines] = []
    outliner = Outliner(told.append)
    try:
        outliner.want(runs.views, metrics=True)
        until(lambda: told and len(told[-1]) == 3)
    finally:
        outliner.stop()
    lr, least, last = Column("config", "lr"), Column("min", "loss"), Column("last", "loss")
    columns = (lr, least, last, Column("run", "best"), Column("run", "val"))
    assert {*columns} <= {*offered(told[-1])}
    text = b"".join(chunks(runs.views, told[-1], columns)).decode()
    rows = {row[0]: row[3:8] for row in csv.reader(io.StringIO(text))}
    assert rows["mlflow.db/mine"] == ["0.1", "0", "1", "0", ""]
    assert rows["mine.jsonl"] == ["", "4", "4", "0", "2"]
    [own] = [view for view in runs.views if view.run_id == "mine.jsonl"]
    assert (own.best_step, own.best_metric) == (3, "val/loss")
