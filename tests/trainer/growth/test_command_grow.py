"""`trainer grow`, from a run to a larger model that trains on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.checkpoints.catalogue import OPTIMIZER
from shared.checkpoints.manifest import file_sha256, verify_folder
from tests.conftest import RunCli
from tests.trainer.loop.conftest import Train, find
from trainer.checkpoint.safetensors_file import read_tensors

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


def test_a_model_with_predictions_grows(
    train: Train, run_cli: RunCli, text_data: Path, tmp_path: Path
) -> None:
    """From the middle of a cycle: what was kept of the weights is left behind."""
    settings = {"optim__schedule": "constant", "hybrid__predictor": "linear", "hybrid__every": 3,
                "hybrid__correct": 2, "hybrid__begin": 0, "hybrid__band": 100}  # fmt: skip
    small = train(
        "small", **settings, train__max_steps=12, checkpoint__interval=1, checkpoint__keep_last=20
    )
    folder = small.run.checkpoints / "step_7"
    assert any("kept_" in name for name in read_tensors(folder / OPTIMIZER))
    output = tmp_path / "big"
    done = run_cli("grow", folder, "--to", BIGGER, "--output", output)
    assert done.code == 0, done.err
    assert not any("kept_" in name for name in read_tensors(output / OPTIMIZER))
    on = run_cli("train", "--begin-from", output, "--begin-with", "state", "--name", "on",
                 "--data-path", text_data, "--max-steps", 16, "--runs-dir", small.run.path.parent,
                 "--set", "hybrid.predictor=linear", "--set", "hybrid.every=3",
                 "--set", "hybrid.correct=2", "--set", "hybrid.begin=0")  # fmt: skip
    assert on.code == 0, on.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "hidden_size=640000000"), "640000000 is more than"),
        (("--to", "num_layers=100000000"), "100000000 is more than"),
        (("--to", "num_layers=" + "9" * 5000), "is not a size"),
        (("--to", "num_kv_heads=0,num_layers=4"), "is not a size"),
        (("--to", "hidden_size=65536,num_layers=4000"), "to grow to it, and this machine has"),
        (("--to", BIGGER, "--output", "{model}/big"), "is inside the checkpoint"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    trained: Train, run_cli: RunCli, arguments: tuple[str, ...], words: str
) -> None:
    folder = trained("plain").run.checkpoints / "step_4"
    before = sorted(folder.iterdir())
    done = run_cli("grow", folder, *(a.replace("{model}", str(folder)) for a in arguments))
    assert done.code == 2 and words in done.err
    assert sorted(folder.iterdir()) == before
