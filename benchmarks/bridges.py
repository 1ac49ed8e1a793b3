"""What a bridge adds to a step of another library's trainer, as a share of a 50 ms step.

Each library that is installed trains a small model with our bridge, which records the loss of every
step. The time inside the bridge's methods is added up for each step. Hold: <= 1 %.

    python -m benchmarks.bridges [--quick]
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.record import Hold, Result, Row, run_alone

STEP_SECONDS = 0.050
HOLD_SHARE = 0.01
WARMUP = 20  # steps


class Costs:
    """Adds up the seconds inside methods, for each step."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def watch(self, thing: Any, *names: str, step: str = "") -> None:
        """Time methods of `thing`; a call of the one named `step` begins another step."""
        for name in names:
            setattr(thing, name, self._timed(getattr(thing, name), begins=name == step))

    def _timed(self, method: Callable[..., Any], *, begins: bool) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            if begins:
                self.steps.append(0.0)
            began = time.perf_counter()
            try:
                return method(*args, **named)
            finally:
                if self.steps:
                    self.steps[-1] += time.perf_counter() - began

        return call


def with_transformers(costs: Costs, place: Path, steps: int) -> None:
    """GPT-2 of one layer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    from shared.bridges.transformers import RunCallback

    callback = RunCallback(place / "runs")
    costs.watch(callback, "on_step_end", "on_log", step="on_step_end")
    size = {"vocab_size": 64, "n_positions": 64, "n_embd": 64, "n_layer": 1, "n_head": 2}
    row = {"input_ids": torch.arange(64), "labels": torch.arange(64)}
    settings = TrainingArguments(
        output_dir=str(place / "out"),
        max_steps=steps,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    model = GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0))
    Trainer(model=model, args=settings, train_dataset=[row] * 64, callbacks=[callback]).train()


def with_lightning(costs: Costs, place: Path, steps: int) -> None:
    """A linear layer."""
    import lightning
    import torch

    from shared.bridges.lightning import RunCallback, RunLogger

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(256, 256)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = self.layer(batch).pow(2).mean()
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    logger, callback = RunLogger(place / "runs"), RunCallback()
    costs.watch(callback, "on_train_batch_end", step="on_train_batch_end")
    costs.watch(logger, "log_metrics")
    trainer = lightning.Trainer(
        max_steps=steps,
        logger=logger,
        callbacks=[callback],
        log_every_n_steps=1,
        default_root_dir=place,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(torch.randn(64, 256), batch_size=8))


def with_keras(costs: Costs, place: Path, steps: int) -> None:
    """A dense layer."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    import numpy as np

    from shared.bridges.keras import RunCallback

    callback = RunCallback(place / "runs")
    costs.watch(callback, "on_train_batch_end", step="on_train_batch_end")
    model = keras.Sequential([keras.Input((256,)), keras.layers.Dense(256)])
    model.compile(optimizer="sgd", loss="mse")
    data = np.ones((8 * steps, 256), dtype="float32")
    model.fit(data, data, batch_size=8, epochs=1, callbacks=[callback], verbose=0)


def with_accelerate(costs: Costs, place: Path, steps: int) -> None:
    """A loop that does nothing else."""
    from accelerate import Accelerator

    from shared.bridges.accelerate import RunTracker

    tracker = RunTracker(place / "runs")
    costs.watch(tracker, "log", "asked", step="log")
    accelerator = Accelerator(log_with=tracker, cpu=True)
    accelerator.init_trackers("project", config={"learning_rate": 0.1})
    for step in range(1, steps + 1):
        time.sleep(0.001)
        accelerator.log({"loss": 1 / step}, step=step)
        tracker.asked(step)
    accelerator.end_training()


def with_summary_writer(costs: Costs, place: Path, steps: int) -> None:
    """A loop that does nothing else, with three scalars for each step."""
    from shared.bridges.summary_writer import SummaryWriter

    writer = SummaryWriter(place / "runs" / "run")
    costs.watch(writer, "add_scalar", "add_scalars", "asked", step="add_scalar")
    for step in range(1, steps + 1):
        time.sleep(0.001)
        writer.add_scalar("loss", 1 / step, step)
        writer.add_scalars("layers", {"first": 0.5, "last": 0.25}, step)
        writer.asked(step)
    writer.close()


BRIDGES: dict[str, Callable[[Costs, Path, int], None]] = {
    "transformers": with_transformers,
    "lightning": with_lightning,
    "keras": with_keras,
    "accelerate": with_accelerate,
    "SummaryWriter": with_summary_writer,
}
#: What a bridge needs beside its own library.
NEEDS = {"transformers": ("transformers", "accelerate"), "SummaryWriter": ()}


def measure(*, quick: bool = False) -> Result:
    """Every bridge whose library is installed."""
    rows: list[Row] = []
    missing: list[str] = []
    worst = 0.0
    for name, train in BRIDGES.items():
        if any(importlib.util.find_spec(needed) is None for needed in NEEDS.get(name, (name,))):
            missing.append(name)
            continue
        costs = Costs()
        with (
            tempfile.TemporaryDirectory() as folder,
            Path(os.devnull).open("w") as console,
            contextlib.redirect_stdout(console),
        ):
            train(costs, Path(folder), WARMUP + (100 if quick else 1000))
        found = costs.steps[WARMUP:]
        median, high = statistics.median(found), statistics.quantiles(found, n=100)[98]
        rows.append(Row(f"{name}: median", median * 1e6, "µs"))
        rows.append(Row(f"{name}: p99", high * 1e6, "µs"))
        worst = max(worst, median)
    share = worst / STEP_SECONDS
    number = f"≤ {HOLD_SHARE:.0%} of a {STEP_SECONDS * 1000:.0f} ms step"
    hold = Hold(number, f"{share:.2%} (the worst median)", share <= HOLD_SHARE)
    notes = ["Wall time inside the bridge, for each step; p99 includes what other processes took."]
    if missing:
        notes.append(f"Not installed here: {', '.join(missing)} (extra `peers`).")
    return Result(rows, [hold], notes)


def main() -> int:
    """Measure and print."""
    return run_alone(__doc__, measure)


if __name__ == "__main__":
    sys.exit(main())
