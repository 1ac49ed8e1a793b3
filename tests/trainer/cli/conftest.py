"""A run that has reached its last step, and a way to have a copy of it that a test may spoil."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

TINY = (
    "--dataset", "synthetic",
    "--seq-len", 8,
    "--batch-size", 2,
    "--device", "cpu",
    "--set", "model.vocab_size=11",
    "--set", "model.hidden_size=8",
    "--set", "model.num_layers=1",
    "--set", "model.num_heads=2",
    "--set", "model.max_seq_len=16",
)  # fmt: skip


@pytest.fixture
def tiny() -> tuple[object, ...]:
    """Options of a model that trains in no time on made-up data."""
    return TINY


@pytest.fixture(scope="session")
def _finished(run_cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("finished")
    flags = ("--name", "done", "--max-steps", 4, "--checkpoint-interval", 2)
    output = run_cli("train", *TINY, "--runs-dir", runs, *flags)
    assert output.code == 0, output.err
    (run,) = runs.iterdir()
    return run


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a completed run of 4 steps in `tmp_path/runs`, under the name asked for."""

    def copy(name: str = _finished.name) -> Path:
        return Path(shutil.copytree(_finished, tmp_path / "runs" / name, symlinks=True))

    return copy
