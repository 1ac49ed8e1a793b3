"""A small trained model, for everything that needs a real checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def trained(run_cli, token_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a byte model trained for a moment, its vocabulary padded to 300."""
    runs = tmp_path_factory.mktemp("trained")
    output = run_cli(
        "train",
        "--config", "minigpt-small",
        "--runs-dir", runs,
        "--data-path", token_data,
        "--max-steps", 60,
        "--seq-len", 64,
        "--eval-interval", 1000,
        "--set", "model.vocab_size=300",
        "--set", "model.hidden_size=64",
        "--set", "model.intermediate_size=128",
        "--set", "model.num_layers=2",
        "--set", "model.max_seq_len=64",
        "--device", "cpu",
    )  # fmt: skip
    assert output.code == 0, output.err
    (run,) = runs.iterdir()
    return run
