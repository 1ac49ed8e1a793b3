"""`trainer grow`, from a run to a larger model that trains on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.checkpoints.manifest import file_sha256, verify_folder
from tests.conftest import RunCli
from tests.trainer.loop.conftest import Train, find

BIGGER = "hidden_size=48,num_layers=4"


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "lion"])
def test_a_grown_model_trains_on_without_a_bump(
    train: Train, run_cli: RunCli, text_data: Path, tmp_path: Path, optimizer: str
) -> None:
    stable = {"optim__schedule": "constant", "optim__name": optimizer, "train__max_steps": 30}
    small = train("small", **stable)
    folder = small.run.checkpoints / "step_30"
    before = {path.name: file_sha256(path) for path in folder.iterdir()}
    output = tmp_path / "big"
    done = run_cli("grow", folder, "--to", BIGGER, "--output", output, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["lossless"] and said["parameters"][1] > 2 * said["parameters"][0]
    measured = said["measured"]
    assert measured["difference"] < 1e-5 * max(1, measured["largest"])
    assert not verify_folder(output)
    assert {path.name: file_sha256(path) for path in folder.iterdir()} == before

    runs = small.run.path.parent
    steps = {}
    for name, begin in (("grown", output), ("same", folder)):
        done = run_cli("train", "--begin-from", begin, "--begin-with", "state", "--name", name,
                       "--data-path", text_data, "--max-steps", 36, "--runs-dir", runs,
                       "--set", "optim.schedule=constant", "--optimizer", optimizer)  # fmt: skip
        assert done.code == 0, done.err
        lines = find(runs, name).metrics_path.read_text().splitlines()
        steps[name] = {r["step"]: r["loss"] for r in map(json.loads, lines) if "loss" in r}
    assert sorted(steps["grown"]) == list(range(31, 37))
    first, *others = (steps["grown"][s] - steps["same"][s] for s in range(31, 37))
    assert abs(first) < 1e-4
    spread = max(steps["same"].values()) - min(steps["same"].values())
    assert max(others) < max(0.05, spread)
