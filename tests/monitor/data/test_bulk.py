"""Half of a long log read by another process: the same series, whatever goes wrong with it."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from monitor.data.bulk import Helper, Parsed
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
def long_run(tmp_path: Path) -> Path:
    """A run with a log of some megabytes."""
    return write_run(tmp_path, "r", {}, mixed_lines(60_000))


class Helpers:
    """Starts helpers and keeps them, with what they parsed."""

    def __init__(self, python: str = sys.executable) -> None:
        self.python = python
        self.started: list[Helper] = []
        self.parsed: list[Parsed | None] = []

    def __call__(self, path: Path) -> Helper:
        kept = self.parsed

        class Kept(Helper):
            def parsed(self) -> Parsed | None:
                kept.append(super().parsed())
                return kept[-1]

        self.started.append(Kept(path, self.python))
        return self.started[-1]


def followed_by_two(folder: Path, helpers: Helpers) -> RunFollower:
    """A follower to which this log is a very long one."""
    return RunFollower(RunDirectory(folder), long=1 << 20, helper=helpers)


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


def test_with_a_helper_the_series_are_the_same(long_run: Path) -> None:
    helpers = Helpers()
    followed = followed_by_two(long_run, helpers)
    followed.poll()
    assert followed.detail().approximate
    followed.poll()
    assert helpers.started
    detail = read(followed)
    table = MetricsReader(long_run / "metrics.jsonl").read_all()
    (parsed,) = helpers.parsed
    assert parsed is not None
    assert 20_000 < parsed.facts.records < 40_000, "half of it came from the helper"
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
    followed = followed_by_two(long_run, Helpers())
    followed.poll()
    followed.poll()
    with path.open("ab") as file:
        file.write(b'ss": 8.0}\n{"step": 20000001, "loss": 9.0}\n')
    assert read(followed).loss.values[-2:].tolist() == [8.0, 9.0]


@pytest.mark.parametrize("python", ["/bin/false", "/nowhere/python", "/bin/true"])
def test_a_helper_that_fails_is_done_without(long_run: Path, python: str) -> None:
    """It ends badly, cannot be started, or ends well and says nothing."""
    table = MetricsReader(long_run / "metrics.jsonl").read_all()
    helpers = Helpers(python)
    assert same(read(followed_by_two(long_run, helpers)), table)
    assert all(found is None for found in helpers.parsed)


@pytest.mark.parametrize("how", ["replaced", "shorter", "gone"])
def test_a_file_that_changes_while_it_is_read_by_two(long_run: Path, how: str) -> None:
    path = long_run / "metrics.jsonl"
    helpers = Helpers()
    followed = followed_by_two(long_run, helpers)
    followed.poll()
    followed.poll()
    (helper,) = helpers.started
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
    assert helper.is_done(), "nobody needs it any more"


def test_a_helper_that_is_no_longer_wanted_is_ended(long_run: Path) -> None:
    helper = Helper(long_run / "metrics.jsonl")
    helper.close()
    assert helper.is_done()
    with pytest.raises(OSError, match="no line ends"):
        Helper(write_run(long_run.parent, "one", {}, b"x" * 100) / "metrics.jsonl")
