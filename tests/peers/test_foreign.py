"""Runs written by the real libraries, read where they lie."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from shared.foreign.registry import format_named
from shared.foreign.walking import Walk
from tests.shared.foreign.making import numbers, read_all

STEPS = range(4)

TENSORBOARD = """
from tensorboardX import SummaryWriter
import numpy
with SummaryWriter("logs") as writer:
    for step in range(4):
        writer.add_scalar("train/loss", 1 / (step + 1), step)
    writer.add_scalar("n", float("nan"), 3)
    writer.add_histogram("weights", numpy.arange(9), 0)
"""
WANDB = """
import wandb
run = wandb.init(project="p", name="mine", tags=["a"], config={"lr": 0.5, "model": {"width": 8}})
for step in range(4):
    run.log({"train/loss": 1 / (step + 1), "n": float("nan"), "a": {"b": step}})
run.finish(exit_code=EXIT)
"""
MLFLOW = """
import mlflow
mlflow.set_experiment("e")
with mlflow.start_run(run_name="mine", tags={"team": "x"}):
    mlflow.log_param("lr", 0.5)
    for step in range(4):
        mlflow.log_metric("train/loss", 1 / (step + 1), step=step)
    mlflow.log_metric("n", float("nan"), step=3)
"""
LIGHTNING = """
from lightning.pytorch.loggers import CSVLogger
logger = CSVLogger(".", name="logs")
logger.log_hyperparams({"lr": 0.5})
for step in range(4):
    logger.log_metrics({"train/loss": 1 / (step + 1)}, step)
    logger.save()
logger.log_metrics({"n": float("nan")}, 3)
logger.finalize("success")
"""
TRACKIO = """
import trackio
trackio.init(project="p", name="mine", config={"lr": 0.5, "model": {"width": 8}})
for step in range(4):
    trackio.log({"train/loss": 1 / (step + 1), "a": {"b": step}}, step=step)
trackio.log({"n": float("nan")}, step=3)
trackio.finish()
"""
TRAINER = """
from transformers import TrainerState
history = [{"train/loss": 1 / (step + 1), "step": step} for step in range(4)]
history.append({"n": float("nan"), "step": 3})
TrainerState(global_step=3, max_steps=3, log_history=history).save_to_json("trainer_state.json")
"""


def written_by(library: str, script: str, place: Path, **variables: object) -> None:
    """Run a script in a process of its own: these libraries leave threads and settings behind."""
    pytest.importorskip(library)
    ours = {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
        "WANDB_DISABLE_GIT": "true",
        "MLFLOW_TRACKING_URI": (place / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "HF_HUB_OFFLINE": "1",
        **{name: str(value) for name, value in variables.items()},
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=place,
        env={**os.environ, **ours},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("library", "script", "format_name", "config"),
    [
        ("tensorboardX", TENSORBOARD, "TensorBoard", {}),
        ("wandb", WANDB.replace("EXIT", "0"), "W&B", {"lr": "0.5", "model.width": "8"}),
        ("mlflow", MLFLOW, "MLflow", {"lr": "0.5"}),
        ("lightning", LIGHTNING, "CSV", {"lr": "0.5"}),
        ("transformers", TRAINER, "Hugging Face", {}),
    ],
    ids=["tensorboardX", "wandb", "mlflow", "lightning", "transformers"],
)
def test_a_run_of_the_real_library_is_read(
    tmp_path: Path, library: str, script: str, format_name: str, config: dict[str, str]
) -> None:
    written_by(library, script, tmp_path)
    [found] = Walk(tmp_path).find()
    assert found.format == format_name
    reader = read_all(found)
    assert not reader.facts.problem
    assert config.items() <= dict(reader.facts.config).items()
    table = reader.table
    losses = table.series("train/loss")
    assert losses.steps.tolist() == list(STEPS)
    assert losses.values.tolist() == pytest.approx([1 / (step + 1) for step in STEPS])
    step, value = numbers(table)["n"][-1]
    assert (step, value) == (3, "nan")
    if format_name == "TensorBoard":
        assert reader.facts.notes == ("1 histogram is not drawn",)
    if format_name in ("W&B", "MLflow"):
        assert (reader.facts.name, reader.facts.status) == ("mine", "completed")
        assert not math.isnan(table.series("time").values[0])


@pytest.mark.parametrize("mode", ["sqlite", "jsonl"])
def test_a_run_of_the_real_trackio_is_read(tmp_path: Path, mode: str) -> None:
    try:  # constraints.txt has other versions of what it needs: it is installed by hand
        version = tuple(map(int, metadata.version("trackio").split(".")[:2]))
    except metadata.PackageNotFoundError:
        pytest.skip("trackio is not installed; it needs other versions than constraints.txt has")
    if version < (0, 40):
        pytest.skip("trackio is older than 0.40")
    written_by("trackio", TRACKIO, tmp_path, TRACKIO_DIR=tmp_path, TRACKIO_STORAGE_MODE=mode)
    [found] = Walk(tmp_path).find()
    assert (found.format, found.name) == ("trackio", "mine")
    assert (found.path.name == "inbox") == (mode == "jsonl")
    reader = read_all(found)
    told = numbers(reader.table)
    assert told["train/loss"] == [(step, repr(1 / (step + 1))) for step in STEPS]
    assert told["a.b"] == [(step, repr(float(step))) for step in STEPS]
    assert told["n"] == [(3, "nan")]
    assert reader.facts.config == {"lr": "0.5", "model.width": "8"}
    assert not reader.facts.problem


def test_a_failed_wandb_run_is_read_as_failed(tmp_path: Path) -> None:
    written_by("wandb", WANDB.replace("EXIT", "3"), tmp_path)
    [found] = Walk(tmp_path).find()
    reader = format_named(found.format).open(found)
    while reader.poll():
        pass
    assert reader.facts.status == "failed"
