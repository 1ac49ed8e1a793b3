"""What was measured of a checkpoint stays with it, and goes up with it."""

from __future__ import annotations

import json
from pathlib import Path

from shared.checkpoints.compression import pack_checkpoint, unpack_checkpoint
from shared.checkpoints.evaluation import (
    EVALUATION,
    Evaluation,
    Measured,
    Speed,
    add_evaluation,
    read_evaluations,
)
from shared.checkpoints.manifest import verify_folder
from shared.hub.upload import plan_upload
from shared.run.directory import RunDirectory
from tests.hub_server import HubServer
from tests.shared.hub.conftest import Upload

RESULT = Evaluation(
    total=Measured("novel.txt", "ab" * 32, 2.5, 1.25, 1000, 2500),
    kind="text",
    split="",
    seq_len=64,
    stride=32,
    max_tokens=None,
    dtype="fp32",
    time=1.0,
    seconds=1.0,
    command="trainer eval --checkpoint /home/ada/runs/tiny",
    git_commit="abc",
    version="1",
    machine="cpu",
)
SPEED = Speed(
    prefill=2000.0,
    decode=50.0,
    prompt_tokens=128,
    new_tokens=64,
    dtype="fp32",
    machine="a cpu",
    time=1.0,
)


def measured(run: RunDirectory, name: str = "step_12") -> Path:
    folder = run.checkpoints / name
    add_evaluation(folder, [RESULT], SPEED)
    return folder


def test_it_goes_up_without_paths_and_into_the_card(
    run: RunDirectory, hub: HubServer, upload: Upload
) -> None:
    measured(run)
    uploaded = upload(checkpoint="12")
    repo = hub.repos["ada/tiny"]
    sent = json.loads(repo.files[EVALUATION])
    assert sent["results"][0]["loss"] == 2.5
    assert "/home/ada" not in repo.files[EVALUATION].decode()
    card = repo.files["README.md"].decode()
    assert "On `novel.txt`" in card
    assert "on `a cpu` in `fp32`: a prompt of 128 tokens is read at 2,000 tokens per second" in card
    assert uploaded.files == len(repo.files)
    assert EVALUATION in [f.name for f in plan_upload(run).files if uploaded.name == "step_12"]


def test_a_checkpoint_is_as_sound_with_it(run: RunDirectory) -> None:
    folder = measured(run)
    assert verify_folder(folder) == []


def test_it_stays_when_the_checkpoint_is_packed_and_unpacked(run: RunDirectory) -> None:
    folder = measured(run, "step_4")
    pack_checkpoint(folder)
    assert verify_folder(folder) == []
    assert read_evaluations(folder) == [RESULT]
    unpack_checkpoint(folder)
    assert read_evaluations(folder) == [RESULT]
    assert verify_folder(folder) == []
