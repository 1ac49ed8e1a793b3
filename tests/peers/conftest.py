"""A small trained model and a server of it, for other programs to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.peers.serving import serving

CONTEXT = 64  # tokens


@pytest.fixture(scope="session")
def checkpoint(run_cli: RunCli, token_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a byte model trained for a moment."""
    runs = tmp_path_factory.mktemp("runs")
    trained = run_cli(
        "train",
        "--config", "minigpt-small",
        "--runs-dir", runs,
        "--name", "peer",
        "--data-path", token_data,
        "--max-steps", 100,
        "--seq-len", CONTEXT,
        "--eval-interval", 1000,
        "--set", "model.hidden_size=32",
        "--set", "model.intermediate_size=64",
        "--set", "model.num_layers=1",
        "--set", f"model.max_seq_len={CONTEXT}",
        "--device", "cpu",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    (run,) = runs.glob("peer_*")
    return run / "checkpoints" / "final"


@pytest.fixture(scope="session")
def address(checkpoint: Path) -> Iterator[str]:
    """Where `trainer serve` answers for it."""
    with serving(checkpoint) as found:
        yield found
