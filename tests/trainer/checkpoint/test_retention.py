"""What a save leaves although it is neither among the last nor the best."""

from __future__ import annotations

import json
from pathlib import Path

from shared.checkpoints.catalogue import BASE_RECORD, list_checkpoints, step_folder
from shared.checkpoints.manifest import write_manifest
from shared.run.directory import RunDirectory
from trainer.checkpoint.retention import apply_retention


def test_the_base_of_another_runs_adapters_stays(tmp_path: Path) -> None:
    run, other = RunDirectory(tmp_path / "base"), RunDirectory(tmp_path / "lora")
    for step in (10, 20, 30):
        folder = step_folder(run.checkpoints, step)
        folder.mkdir(parents=True)
        write_manifest(folder, step, {})
    adapters = step_folder(other.checkpoints, 5)
    adapters.mkdir(parents=True)
    other.state_path.write_text("{}")
    base = step_folder(run.checkpoints.resolve(), 10)
    (adapters / BASE_RECORD).write_text(json.dumps({"path": str(base)}))
    assert apply_retention(run.checkpoints, keep_last=1, save_top_k=0) == ["step_20"]
    assert [info.step for info in list_checkpoints(run.checkpoints)] == [10, 30]
    other.state_path.unlink()  # not a run any more
    assert apply_retention(run.checkpoints, keep_last=1, save_top_k=0) == ["step_10"]
