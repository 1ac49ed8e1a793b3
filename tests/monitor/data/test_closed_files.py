"""Runs and files that may not be read say so, instead of being left out."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.data.poller import read_once
from monitor.data.scanner import RunScanner
from shared.run.directory import RunDirectory
from tests.monitor.support import metric_lines, write_run

NOBODY = 65534


@pytest.fixture
def runs_dir() -> Iterator[Path]:
    """A folder that everybody may look into, its parents included."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of the superuser, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_run_that_may_not_be_looked_into_is_listed_with_the_reason(runs_dir: Path) -> None:
    write_run(runs_dir, "open", {"status": "completed"}, metric_lines(5))
    closed = write_run(runs_dir, "closed", {"status": "completed"}, metric_lines(5))
    closed.chmod(0)
    try:
        with as_nobody():
            scanner = RunScanner(runs_dir, lambda: 0.0)
            first = {view.run_id: view for view in scanner.scan()}
            again = scanner.scan()
            seen = read_once(runs_dir, RunDirectory(closed))
    finally:
        closed.chmod(0o755)
    assert set(first) == {"open", "closed"} == {view.run_id for view in again}
    assert "may not look into its folder" in first["closed"].reason
    assert seen.detail is not None
    assert {view.run_id: view for view in scanner.scan(fresh=True)}["closed"].status == "completed"


@pytest.mark.parametrize("state", [{"status": "completed"}, None])
def test_metrics_that_may_not_be_read_are_told_of(
    runs_dir: Path, state: dict[str, str] | None
) -> None:
    run = write_run(runs_dir, "run", state or {}, metric_lines(5))
    if state is None:
        (run / "run_state.json").unlink()
    (run / "metrics.jsonl").chmod(0)
    with as_nobody():
        view = RunScanner(runs_dir, lambda: 0.0).scan()[0]
    assert "may not read its metrics.jsonl" in view.note
