"""Every part at once: trained, stopped, resumed to the same bytes, logged, generated from."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.run.directory import RunDirectory, discover_runs
from shared.run.metrics_log import MetricsReader

SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_layers": 2,
    "num_heads": 4,
    "max_seq_len": 32,
}
PARTS = {
    "ternary": "true",
    "ternary_from": 0.5,
    "hyper_streams": 4,
    "hyper_dynamic": "true",
    "mtp_heads": 2,
}


def train(run_cli, runs: Path, *command: object) -> RunDirectory:
    done = run_cli(*command, "--runs-dir", runs)
    assert done.code == 0, done.err
    (run,) = discover_runs(runs)
    return run


@pytest.fixture(scope="module")
def begin(token_data: Path) -> tuple[object, ...]:
    """The command of a new run with every part."""
    model = [f"--set=model.{key}={value}" for key, value in (SHAPE | PARTS).items()]
    return (
        "train", "--data-path", token_data, "--seq-len", 32, "--batch-size", 4,
        "--accumulation-steps", 2, "--device", "cpu", "--dtype", "fp32", "--threads", 1,
        "--deterministic", "--log-interval", 1, *model, "--set", "train.collider=true",
        "--set", "optim.schedule=constant", "--set", "optim.weight_decay=0",
    )  # fmt: skip


def test_all_parts_resume_to_the_same_bytes_and_log_what_they_do(
    run_cli, begin: tuple[object, ...], tmp_path: Path
) -> None:
    whole = train(run_cli, tmp_path / "whole", *begin, "--max-steps", 6)
    halves = train(
        run_cli, tmp_path / "halves", *begin, "--max-steps", 6, "--checkpoint-interval", 3
    )
    # From the checkpoint before the weights become ternary, which they do at step 4.
    again = run_cli("resume", f"{halves.run_id}:3", "--runs-dir", tmp_path / "halves")
    assert again.code == 0, again.err
    for name in ("model.safetensors", "mtp.safetensors", "optimizer.safetensors"):
        one, other = (run.checkpoints / "final" / name for run in (whole, halves))
        assert one.read_bytes() == other.read_bytes(), name

    metrics = MetricsReader(whole.metrics_path).read_all()
    for key in (
        *("ternary_zeros", "ternary_scale", "hyper_separation", "hyper_gain", "hyper_kept"),
        *("mtp_loss_1", "mtp_loss_2", "mtp_acceptance_1", "collider_kept", "cross_entropy"),
    ):
        assert len(metrics.series(key).values) == 6, key
    assert "The weights are ternary from step 4 on" in whole.log_path.read_text()

    said = run_cli(
        "generate", whole.run_id, "--runs-dir", tmp_path / "whole", "--prompt", "a",
        "--temperature", 0, "--max-new-tokens", 12, "--ignore-eos", "--speed",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "drafted tokens accepted" in said.err
    plain = run_cli(
        "generate", whole.run_id, "--runs-dir", tmp_path / "whole", "--prompt", "a",
        "--temperature", 0, "--max-new-tokens", 12, "--ignore-eos", "--no-drafts",
    )  # fmt: skip
    assert plain.out == said.out

    refused = run_cli(
        "export", "--checkpoint", whole.run_id, "--runs-dir", tmp_path / "whole",
        "--gguf", tmp_path / "m.gguf", "--mhc", tmp_path / "m.mhc",
    )  # fmt: skip
    assert refused.code == 2
    assert "depend on the input" in refused.err
