"""A few lines of a large file give its shape; whatever lies in the file does no harm."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.data.skim import skim, without_retaken
from shared.run.metrics_log import MetricsReader


def lines(first: int, last: int, attempt: int = 1, **more: object) -> bytes:
    return b"".join(
        json.dumps({"step": s, "loss": 1000.0 / (s + 1), "attempt": attempt, **more}).encode()
        + b"\n"
        for s in range(first, last)
    )


def test_a_large_file_is_approximate_and_has_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(0, 40_000) + b'{"step": 40000, "lo')
    found = skim(path)
    loss = found.series["loss"]
    assert found.approximate
    assert found.size == path.stat().st_size
    assert (loss.steps[0], loss.steps[-1]) == (0, 39_999)
    assert 850 <= found.lines == len(loss) <= 900
    assert np.diff(loss.steps).max() < 2.5 * 40_000 / 900
    np.testing.assert_allclose(loss.values, 1000.0 / (loss.steps + 1))


def test_a_small_file_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(0, 50) + lines(20, 60, attempt=2) + b'{"step"')
    found = skim(path)
    exact = MetricsReader(path).read_all().series("loss")
    assert not found.approximate
    assert found.series["loss"].steps.tolist() == exact.steps.tolist() == list(range(60))


def test_steps_taken_again_are_drawn_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    old = lines(0, 20_000).replace(b'"loss": ', b'"loss": 9')
    path.write_bytes(old + lines(10_000, 15_000, attempt=2))
    loss = skim(path).series["loss"]
    again = (loss.steps >= 10_100) & (loss.steps < 14_900)
    assert again.sum() > 100
    np.testing.assert_allclose(loss.values[again], 1000.0 / (loss.steps[again] + 1))
    assert loss.steps[-1] > 19_900  # what the second attempt has not reached is still there


def test_a_rollback_of_one_attempt_is_a_new_pass() -> None:
    records = [{"step": s, "loss": 1.0} for s in (0, 10, 20, 30, 15, 25, 35)]
    assert [r["step"] for r in without_retaken(records)] == [0, 10, 15, 25, 35]
    evaluations = [{"step": 10, "loss": 1.0}, {"step": 9, "val_loss": 1.0}, {"step": 11, "loss": 1}]
    assert without_retaken(evaluations) == evaluations


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "unreadable", "empty"])
def test_what_is_no_file_gives_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "metrics.jsonl"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "unreadable":
        path.symlink_to(path)
    elif kind == "empty":
        path.touch()
    found = skim(path)
    assert not found.series
    assert not found.approximate


JUNK = [
    b"\x00" * 300_000,
    b'{"step": 1, "loss": ' + b"9" * 400_000 + b"}\n",
    b"\n" * 300_000,
    b"[" * 50_000 + b"\n",
    b"\xff\xfe\x1b]0;x\x07\n" * 20_000,
    b'{"step": NaN, "loss": Infinity, "attempt": "x"}\n' * 6000,
    b'{"step": 1e400, "loss": -Infinity, "attempt": 1e400}\n' * 6000,
]


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_junk_hides_no_line_far_from_it(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(0, 5000) + junk + b"\n" + lines(5000, 10_000))
    steps = skim(path).series["loss"].steps
    assert steps[0] == 0
    assert steps[-1] == 9999
    assert ((steps > 100) & (steps < 4900)).sum() > 50
    assert ((steps > 5100) & (steps < 9900)).sum() > 50


def test_only_whole_lines_are_read_whatever_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = st.builds(
        lambda s, v: b'{"step": %d, "x": %d}' % (s, v), st.integers(0, 99), st.just(7)
    )

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.one_of(whole, st.binary(max_size=30)), max_size=40), st.integers(0, 60))
    def check(found: list[bytes], samples: int) -> None:
        path.write_bytes(b"\n".join(found))
        exact = MetricsReader(path).read_all()
        seen = skim(path, samples, small=0, least_read=4)
        for key, series in seen.series.items():
            assert set(series.steps.tolist()) <= set(exact.series(key).steps.tolist())
        if seen.series.keys() == {"x"}:
            assert set(seen.series["x"].values) == {7.0}

    check()
