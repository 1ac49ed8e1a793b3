"""Runs exported for other tools, read by the real ones."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.export.curves import read_curves, read_facts
from shared.export.tensorboard import export_tensorboard, tensorboard_target
from shared.export.wandb import export_wandb, wandb_target
from shared.library.labels import change_labels
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.peers.wandb_server import wandb_server

STEPS = range(1, 40)
VALUES = {
    step: math.nan if step == 2 else math.inf if step == 3 else 0.1 * step - 1 for step in STEPS
}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    with RunWriter(tmp_path / "runs", "it") as writer:
        writer.write_config({"optim": {"lr": 3e-4, "name": "adamw", "on": True}})
        for step, value in VALUES.items():
            more = {"eval/acc": step / 8} if step % 8 == 0 else {}
            writer.log(step, **{"train/loss": value}, **more)
    change_labels(writer.run, name="Nice", note="first", add_tags=["good"])
    return writer.run


def test_tensorboard_reads_it(run: RunDirectory, tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    hparams = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    facts = read_facts(run)
    target = tensorboard_target(facts, tmp_path / "logs", force=False)
    written = export_tensorboard(facts, read_curves(run), target)
    found = loader.EventAccumulator(str(written.folder), {loader.SCALARS: 0}).Reload()
    assert set(found.Tags()["scalars"]) == {"train/loss", "eval/acc"}
    losses = found.Scalars("train/loss")
    assert [one.step for one in losses] == list(STEPS)
    wanted = np.array([*VALUES.values()], np.float32)
    np.testing.assert_array_equal(np.array([one.value for one in losses], np.float32), wanted)
    assert facts.started_at is not None
    assert facts.ended_at is not None
    assert all(facts.started_at <= one.wall_time <= facts.ended_at for one in losses)
    told = hparams.HParamsPluginData.FromString(
        found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    ).session_start_info
    assert told.hparams["optim.lr"].number_value == 3e-4
    assert told.hparams["optim.name"].string_value == "adamw"
    assert told.hparams["optim.on"].bool_value
    experiment = hparams.HParamsPluginData.FromString(
        found.SummaryMetadata("_hparams_/experiment").plugin_data.content
    ).experiment
    assert {one.name.tag for one in experiment.metric_infos} == {"train/loss", "eval/acc"}
    assert [one.type for one in experiment.hparam_infos] == [3, 1, 2]  # number, text, truth value


def test_wandb_lists_and_syncs_it(run: RunDirectory, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    facts = read_facts(run)
    folder = tmp_path / "wandb"
    written = export_wandb(facts, read_curves(run), wandb_target(facts, folder, force=False))
    with wandb_server() as (address, synced):
        ours = {
            "WANDB_BASE_URL": address,
            "WANDB_API_KEY": "0" * 40,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_CONFIG_DIR": str(tmp_path),
            "WANDB_CACHE_DIR": str(tmp_path),
            "HOME": str(tmp_path),
        }
        for dry in ("--dry-run", ""):
            line = [sys.executable, "-m", "wandb", "sync", *filter(None, [dry]), written.folder]
            done = subprocess.run(
                line,
                env={**os.environ, **ours},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert ("Would sync 1 run(s)" if dry else "Finished syncing") in done.stderr
    assert (synced.run["name"], synced.run["displayName"]) == (run.run_id, "Nice")
    assert (synced.run["tags"], synced.run["notes"]) == (["good"], "first")
    config = {key: value["value"] for key, value in json.loads(synced.run["config"]).items()}
    assert config["optim"] == {"lr": 3e-4, "name": "adamw", "on": True}
    history = {record["_step"]: record for record in synced.history}
    assert {step: repr(float(record["train/loss"])) for step, record in history.items()} == {
        step: repr(float(value)) for step, value in VALUES.items()
    }
    assert history[8]["eval/acc"] == 1
    assert synced.exit_code == 0
