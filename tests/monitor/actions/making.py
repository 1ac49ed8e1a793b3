"""Runs with real, small checkpoints, as a trainer leaves them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from monitor.data.scanner import RunScanner
from monitor.data.views import RunView
from shared.checkpoints.catalogue import BEST, FINAL, LATEST, set_link, step_folder
from shared.checkpoints.manifest import write_manifest
from shared.ownership.process import host_name
from shared.run.directory import RunDirectory
from shared.text import one_line
from tests.monitor.support import metric_lines, write_run

STEPS = (100, 200, 300, 400, 500)
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 8}


def save_checkpoint(checkpoints: Path, step: int, name: str = "", **facts: float) -> Path:
    """A folder that could go to the Hub as it is."""
    folder = checkpoints / name if name else step_folder(checkpoints, step)
    folder.mkdir(parents=True)
    weights = {"model.embed_tokens.weight": np.full((8, 4), step, np.float32)}
    (folder / "model.safetensors").write_bytes(save(weights))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_manifest(folder, step, facts)
    return folder


def checkpointed_run(runs_dir: Path, run_id: str = "demo_1", **state: object) -> RunDirectory:
    """An ended run with five steps, the best of them 200; `final` is hard links to the last."""
    fields = {
        "run_name": "demo",
        "status": "failed",
        "host": host_name(),
        "pid": 999_999,
        "attempt": 1,
        "current_step": 500,
        "max_steps": 900,
        "started_at": time.time() - 60,
        **state,
    }
    folder = write_run(runs_dir, run_id, fields, metric_lines(501))
    (folder / "config.yaml").write_text("model: {flavour: llama}\n")
    checkpoints = folder / "checkpoints"
    for step in STEPS:
        save_checkpoint(checkpoints, step, loss=1.0, val_loss=abs(step - 200) / 100)
    (checkpoints / FINAL).mkdir()
    for path in step_folder(checkpoints, 500).iterdir():
        os.link(path, checkpoints / FINAL / path.name)
    set_link(checkpoints, LATEST, step_folder(checkpoints, 500))
    set_link(checkpoints, BEST, step_folder(checkpoints, 200))
    return RunDirectory(folder)


def look(run: RunDirectory) -> RunView:
    """The run as the list shows it."""
    views = RunScanner(run.path.parent, time.time).scan()
    return next(v for v in views if v.path.name == one_line(run.path.name, 400))


def names(run: RunDirectory) -> list[str]:
    """The checkpoints that are there."""
    folders = (p for p in run.checkpoints.iterdir() if p.is_dir() and not p.is_symlink())
    return sorted(p.name for p in folders if not p.name.startswith("."))
