"""Whole short trainings: gradient accumulation, and losses recorded once (golden_losses.json).

After a change that is meant to alter numerics, record them again with
`GOLDEN_LOSSES=record python -m pytest tests/trainer/model/test_training.py`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from shared.run.metrics_log import MetricsReader

GOLDEN = Path(__file__).with_name("golden_losses.json")
STEPS = 20
#: Nats. Without vector instructions, with AVX2 and with AVX-512 the losses differ by up to 1.3e-6
#: from those recorded; a change of the numerics that matters makes more than this.
TOLERANCE = 1e-4
SMALL = {"vocab_size": 61, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_seq_len": 32}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-gqa-untied": {"num_kv_heads": 2, "tie_embeddings": "false"},
    "qwen3": {"qk_norm": "true", "num_kv_heads": 1},
    "gpt2": {"flavour": "gpt2"},
    "gpt2-untied": {"flavour": "gpt2", "tie_embeddings": "false"},
}


def train(run_cli, runs: Path, shape: str, *flags: object) -> dict[str, list[float]]:
    """Loss and gradient norm of every step of a run on made-up data."""
    model = [f"--set=model.{key}={value}" for key, value in {**SMALL, **SHAPES[shape]}.items()]
    output = run_cli(
        "train",
        "--runs-dir", runs,
        "--dataset", "synthetic",
        "--seq-len", 32,
        "--learning-rate", "1e-2",
        "--set", "optim.warmup_steps=5",
        "--device", "cpu",
        "--dtype", "fp32",
        "--threads", 1,
        "--deterministic",
        *model,
        *flags,
    )  # fmt: skip
    assert output.code == 0, output.err
    (run,) = runs.iterdir()
    metrics = MetricsReader(run / "metrics.jsonl").read_all()
    return {key: list(metrics.series(key).values) for key in ("loss", "gradient_norm")}


def test_four_small_batches_are_one_big_batch(run_cli, tmp_path: Path) -> None:
    for shape in ("llama-gqa-untied", "gpt2"):
        common = ("--max-steps", 6, "--seed", 3)
        big = train(run_cli, tmp_path / f"{shape}-1", shape, "--batch-size", 8, *common)
        flags = ("--batch-size", 2, "--accumulation-steps", 4, *common)
        small = train(run_cli, tmp_path / f"{shape}-4", shape, *flags)
        assert small["loss"] == pytest.approx(big["loss"], abs=2e-5)
        assert small["gradient_norm"] == pytest.approx(big["gradient_norm"], rel=1e-3)
        assert len(big["loss"]) == 6


def test_losses_are_those_recorded(run_cli, tmp_path: Path) -> None:
    losses = {
        shape: train(run_cli, tmp_path / shape, shape, "--max-steps", STEPS)["loss"]
        for shape in SHAPES
    }
    if os.environ.get("GOLDEN_LOSSES") == "record":
        rounded = {shape: [round(x, 6) for x in series] for shape, series in losses.items()}
        about = str(__doc__).partition("\n\n")[2].replace("\n", " ").strip()
        GOLDEN.write_text(json.dumps({"about": about, "losses": rounded}, indent=1) + "\n")
    recorded = json.loads(GOLDEN.read_text())["losses"]
    assert set(recorded) == set(SHAPES)
    for shape, series in losses.items():
        assert len(series) == STEPS
        assert series == pytest.approx(recorded[shape], abs=TOLERANCE), shape
        assert series[-1] < series[0] - 0.3
