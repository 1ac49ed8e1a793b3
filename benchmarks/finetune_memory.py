"""Memory and speed of fine-tuning: all weights, or LoRA adapters, in fp32 and bf16.

The base has SmolLM2-135M's shape and random weights, saved in bf16. Each training is a process of
its own: three optimizer steps and a background save, of which the fastest step counts. The peak is
the kernel's (`VmHWM`), and the process itself, with torch loaded, is part of it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import Hold, Result, Row
from benchmarks.training_memory import WITHIN, peak_bytes

SMOLLM2_135M = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_layers": 30,
    "num_heads": 9,
    "num_kv_heads": 3,
    "max_seq_len": 2048,
    "rope_theta": 100_000.0,
    "norm_eps": 1e-5,
}
SHORT = {
    "data.dataset": "synthetic",
    "data.n_samples": 1000,
    "train.device": "cpu",
    "train.max_steps": 3,
    "train.batch_size": 2,
    "train.seq_len": 256,
    "eval.interval": 1000,
    "eval.batches": 1,
    "checkpoint.interval": 2,
}
LORA = {"model.lora_r": 16, "model.lora_alpha": 32}
#: What is compared, by name.
WAYS: dict[str, dict[str, Any]] = {
    "all weights, fp32": {"train.dtype": "fp32"},
    "all weights, bf16": {"train.dtype": "bf16"},
    "LoRA, base in fp32, fp32": {"train.dtype": "fp32", "model.lora_base": "fp32", **LORA},
    "LoRA, base in bf16, fp32": {"train.dtype": "fp32", "model.lora_base": "bf16", **LORA},
    "LoRA, base in bf16, bf16": {"train.dtype": "bf16", "model.lora_base": "bf16", **LORA},
}


@dataclass(frozen=True)
class Measured:
    """Bytes at the peak and as estimated, seconds of a step, bytes of a checkpoint, parameters."""

    peak: int
    estimated: int
    step_seconds: float
    checkpoint: int
    trained: int


def make_base(folder: Path, shape: Mapping[str, Any]) -> None:
    """Write a model of that shape with random weights in bf16."""
    import torch

    from trainer.checkpoint.hf_format import hf_config
    from trainer.checkpoint.saving import weight_tensors
    from trainer.checkpoint.tensor_file import write_tensors
    from trainer.config.model import ModelConfig
    from trainer.model.language_model import LanguageModel

    model = LanguageModel(ModelConfig(**shape))
    model.initialize(0)
    weights = {name: value.bfloat16() for name, value in weight_tensors(model).items()}
    folder.mkdir()
    write_tensors(folder / "model.safetensors", weights, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(hf_config(model.config, 0, 0)))
    assert torch.isfinite(next(iter(weights.values()))).all()


def train(base: Path, way: str) -> Measured:
    """In this process: fine-tune `base` in one of the ways."""
    from shared.run.metrics_log import MetricsReader
    from shared.run_writer import RunWriter
    from trainer.checkpoint.loading import model_config
    from trainer.config.resolve import resolve
    from trainer.loop.plan import plan
    from trainer.loop.session import begin, build
    from trainer.loop.training import Training
    from trainer.model.shapes import parameter_count

    shape = {f"model.{k}": v for k, v in model_config(base).model_dump(mode="json").items()}
    config = resolve(shape, SHORT, WAYS[way], {"checkpoint.begin_from": str(base)})
    planned = plan(config)
    estimated = planned.memory.total
    with tempfile.TemporaryDirectory() as folder:
        writer = RunWriter(folder, name="finetune", max_steps=planned.max_steps)
        session = build(planned)
        begin(session, base)
        Training(session, writer).run()
        saved = writer.run.checkpoints / "final"
        size = sum(path.stat().st_size for path in saved.iterdir())
        steps = MetricsReader(writer.run.metrics_path).read_all().series("step_time_ms").values
        seconds = float(steps.min()) / 1000
    trained = parameter_count(config.model).trained
    return Measured(peak_bytes(), estimated, seconds, size, trained)


def apart(base: Path, way: str) -> Measured:
    """As `train`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.finetune_memory", "--base", str(base), way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measure(*, quick: bool) -> Result:
    """Every way; `quick`: with two layers."""
    shape = {**SMOLLM2_135M, "num_layers": 2} if quick else SMOLLM2_135M
    rows, ratios = [], []
    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "base"
        make_base(base, shape)
        found = {way: apart(base, way) for way in WAYS}
    peer, whole = next(iter(found.items()))
    for way, here in found.items():
        ratios.append(here.estimated / here.peak)
        faster, smaller = here.step_seconds / whole.step_seconds, here.checkpoint / whole.checkpoint
        rows += [
            Row(f"{way}: peak", here.peak / 2**20, "MiB", peer, here.peak / whole.peak),
            Row(f"{way}: estimate", here.estimated / 2**20, "MiB", "peak", ratios[-1]),
            Row(f"{way}: step", here.step_seconds, "s", peer, faster),
            Row(f"{way}: checkpoint", here.checkpoint / 2**20, "MiB", peer, smaller),
            Row(f"{way}: trained", here.trained / 1e6, "million"),
        ]
    worst = max(ratios, key=lambda ratio: abs(1 - ratio))
    number = f"estimates within {WITHIN:.0%} of the peak"
    return Result(rows, [Hold(number, f"{worst:.2f}x", abs(1 - worst) <= WITHIN)])


def main() -> None:
    """One way, here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--base", type=Path, required=True)
    options = parser.parse_args()
    print(f"\n{json.dumps(asdict(train(options.base, options.way)))}")


if __name__ == "__main__":
    main()
