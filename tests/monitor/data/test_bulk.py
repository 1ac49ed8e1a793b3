"""Half of a long log read by another process: the same series, whatever goes wrong with it."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.data import bulk, follower
from monitor.data.bulk import Helper
from monitor.data.follower import RunFollower
from monitor.data.views import RunDetail
from shared.run.directory import RunDirectory
from shared.run.metrics_log import MetricsReader, MetricsTable
from tests.monitor.support import write_run


def mixed_lines(count: int) -> bytes:
    """A log with all that makes columns differ: resumes, evaluations, NaN, junk, no attempt."""
    dice = random.Random(5)
    lines: list[bytes] = []
    step = 0
    for number in range(count):
        step = max(0, step - 40) if dice.random() < 0.001 else step + 1
        loss = b"NaN" if dice.random() < 0.01 else b"%.3f" % dice.random()
        more = b', "val_loss": %.2f' % dice.random() if step % 50 == 0 else b""
        attempt = b', "attempt": %d' % (number // 10_000) if number % 3_000 else b""
        lines.append(
            b'{"step": %d, "loss": %b, "time": %d%b%b}' % (step, loss, step, more, attempt)
        )
        if dice.random() < 0.002:
            lines.append(b'{"torn": ')
    return b"\n".join(lines) + b"\n"


@pytest.fixture
def long_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose log counts as very long."""
    monkeypatch.setattr(follower, "LONG", 1 << 20)
    monkeypatch.setattr(follower.os, "cpu_count", lambda: 2)
    return write_run(tmp_path, "r", {}, mixed_lines(60_000))


def read(followed: RunFollower) -> RunDetail:
    while followed.more:
        followed.poll()
    return followed.detail()


def same(detail: RunDetail, table: MetricsTable) -> bool:
    return all(
        np.array_equal(detail.series[key].steps, table.series(key).steps)
        and np.array_equal(detail.series[key].values, table.series(key).values, equal_nan=True)
        for key in (*table.keys(), "time")
    )


def test_with_a_helper_the_series_are_the_same(
    long_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[int] = []
    join = MetricsTable.join

    def spied(table: MetricsTable, *parts: Any) -> None:
        joined.append(table.records)
        join(table, *parts)

    monkeypatch.setattr(MetricsTable, "join", spied)
    followed = RunFollower(RunDirectory(long_run))
    followed.poll()
    assert followed.detail().approximate
    followed.poll()
    assert followed._helper is not None
    detail = read(followed)
    table = MetricsReader(long_run / "metrics.jsonl").read_all()
    assert 20_000 < joined[0] < 40_000, "the other half came from the helper"
    assert same(detail, table)
    assert detail.bad_lines == table.bad_lines > 0
    assert detail.newest["step"] == table.last_record["step"]
    with (long_run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 10000000, "loss": 7.0}\n')
    assert followed.poll()
    assert followed.detail().loss.values[-1] == 7.0


def test_what_is_appended_meanwhile_is_read_afterwards(long_run: Path) -> None:
    path = long_run / "metrics.jsonl"
    with path.open("ab") as file:
        file.write(b'{"step": 20000000, "lo')
    followed = RunFollower(RunDirectory(long_run))
    followed.poll()
    followed.poll()
    with path.open("ab") as file:
        file.write(b'ss": 8.0}\n{"step": 20000001, "loss": 9.0}\n')
    assert read(followed).loss.values[-2:].tolist() == [8.0, 9.0]


def test_a_helper_that_fails_is_done_without(
    long_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = MetricsReader(long_run / "metrics.jsonl").read_all()
    monkeypatch.setattr(bulk.sys, "executable", "/bin/false")
    assert same(read(RunFollower(RunDirectory(long_run))), table)
    monkeypatch.setattr(bulk.sys, "executable", "/nowhere/python")
    assert same(read(RunFollower(RunDirectory(long_run))), table)
    monkeypatch.setattr(bulk.sys, "executable", "/bin/true")  # it ends well and says nothing
    assert same(read(RunFollower(RunDirectory(long_run))), table)


@pytest.mark.parametrize("how", ["replaced", "shorter", "gone"])
def test_a_file_that_changes_while_it_is_read_by_two(long_run: Path, how: str) -> None:
    path = long_run / "metrics.jsonl"
    followed = RunFollower(RunDirectory(long_run))
    followed.poll()
    followed.poll()
    helper = followed._helper
    assert helper is not None
    other = mixed_lines(30_000)
    if how == "replaced":
        (long_run / "new").write_bytes(other)
        os.replace(long_run / "new", path)  # noqa: PTH105
    elif how == "shorter":
        os.truncate(path, helper.start - 100_000)
    else:
        path.unlink()
    detail = read(followed)
    if how != "gone":
        assert same(detail, MetricsReader(path).read_all())
    assert followed._helper is None


def test_a_helper_that_is_no_longer_wanted_is_ended(long_run: Path) -> None:
    helper = Helper(long_run / "metrics.jsonl")
    process = helper._process
    helper.close()
    assert process.returncode is not None
    with pytest.raises(OSError, match="no line ends"):
        Helper(write_run(long_run.parent, "one", {}, b"x" * 100) / "metrics.jsonl")
