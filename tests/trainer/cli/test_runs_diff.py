"""`trainer runs diff`: where two configurations differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.monitor.support import write_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    common = "model:\n  num_layers: 4\n"
    for name, more in (
        ("one", "optim:\n  learning_rate: 0.001\n"),
        ("two", 'optim:\n  learning_rate: 0.002\n  note: "\\e[2J"\n'),
        ("same", "optim:\n  learning_rate: 0.001\n"),
        ("none", ""),
    ):
        folder = write_run(tmp_path, name, {"status": "completed"})
        if more:
            (folder / "config.yaml").write_text(common + more)
    return tmp_path


def test_what_differs_is_told(runs: Path, run_cli: RunCli) -> None:
    output = run_cli("runs", "diff", "one", "two", "--runs-dir", runs)
    assert output.code == 0, output.err
    head, rate, note = output.out.splitlines()
    assert head.split() == ["key", "one", "two"]
    assert rate.split() == ["optim.learning_rate", "0.001", "0.002"]
    assert note.split()[:2] == ["optim.note", "-"]
    assert "\x1b" not in output.out


def test_for_programs(runs: Path, run_cli: RunCli) -> None:
    output = run_cli("runs", "diff", "one", "two", "--runs-dir", runs, "--json")
    assert json.loads(output.out)["optim.learning_rate"] == ["0.001", "0.002"]


def test_equal_ones(runs: Path, run_cli: RunCli) -> None:
    output = run_cli("runs", "diff", "one", "same", "--runs-dir", runs)
    assert output.out == "one and same have the same configuration\n"


def test_one_without_a_configuration(runs: Path, run_cli: RunCli) -> None:
    output = run_cli("runs", "diff", "one", "none", "--runs-dir", runs)
    assert output.code == 2
    assert "The configuration of none cannot be read" in output.err
