"""`trainer train --data`: what it takes from the configuration."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import RunCli


def test_another_optimizer_discards_the_rates_of_a_file(run_cli: RunCli, tmp_path: Path) -> None:
    text, config = tmp_path / "text.txt", tmp_path / "config.yaml"
    text.write_text("to be or not to be\n" * 100)
    config.write_text(
        "model: {vocab_size: 258, hidden_size: 8, num_layers: 1, num_heads: 2, max_seq_len: 16}\n"
        "optim: {min_lr: 6e-5}\n"
    )
    done = run_cli(
        "train", "--config", config, "--data", text, "--optimizer", "lion", "--learning-rate",
        5e-5, "--max-steps", 1, "--device", "cpu", "--dry-run", "--runs-dir", tmp_path / "runs",
    )  # fmt: skip
    assert done.code == 0, done.err
