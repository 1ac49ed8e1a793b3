"""Runs whose model grows: stages, records, and exact resume in and between them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.checkpoints.catalogue import list_checkpoints
from shared.checkpoints.manifest import verify_folder
from tests.conftest import RunCli
from tests.trainer.growth.conftest import killed
from tests.trainer.loop.conftest import Train, Trained, resume
from trainer.checkpoint.disk import Disk
from trainer.loop.hooks import Hooks

STAGES = json.dumps(
    [
        {"until": 0.35, "name": "small", "hidden_size": 16, "num_heads": 2, "num_layers": 1},
        {"until": 0.7, "name": "middle", "hidden_size": 16, "num_heads": 2},
    ]
)
LATE = json.dumps([{"until": 0.18, "name": "small", "num_layers": 1}])
GROWING: dict[str, Any] = {
    "growth__stages": STAGES,
    "train__max_steps": 20,
    "optim__schedule": "wsd",
    "optim__decay_start": 0.8,
    "checkpoint__keep_last": 1,
    "checkpoint__save_top_k": 0,
    "checkpoint__interval": 5,
}


@pytest.fixture(scope="module")
def whole(trained: Train) -> Trained:
    """A run through all stages at once."""
    return trained("whole", "--deterministic", **GROWING)


def test_a_run_goes_through_its_stages(whole: Trained) -> None:
    assert whole.code == 0
    phases = [change.to for change in whole.state.phase_transitions]
    assert phases == ["warmup", "small", "middle", "custom"]
    grown = [event for event in whole.events if event["event"] == "grown"]
    assert len(grown) == 2
    for event in grown:
        before, after = event["parameters"]
        assert before < after
        assert abs(event["loss_after"] - event["loss_before"]) < 1e-5
    assert whole.state.model["parameters"] == grown[1]["parameters"][1]
    # The last checkpoint of every stage is kept, beside the newest.
    listed = list_checkpoints(whole.run.checkpoints)
    names = [c.name for c in listed if c.whole]
    assert names == ["step_7", "step_14", "step_20", "final"]
    assert [c.name for c in listed if c.ends_stage] == ["step_7", "step_14"]
    for name in names:
        assert not verify_folder(whole.run.checkpoints / name)
    widths = [
        json.loads((whole.run.checkpoints / name / "config.json").read_text())["hidden_size"]
        for name in names[:3]
    ]
    assert widths == [16, 16, 32]


def test_no_loss_is_out_of_line_where_it_grows(whole: Trained) -> None:
    losses = whole.metrics.series("loss").values
    changes = abs(losses[1:] - losses[:-1])
    grown = [6, 7, 13, 14]  # the first two steps of each larger model
    assert changes[grown].max() <= np.delete(changes, grown).max()


@pytest.mark.parametrize("step", [3, 7, 10, 14, 17])
def test_a_run_resumes_in_any_stage(
    train: Train, run_cli: RunCli, whole: Trained, step: int
) -> None:
    """Also where a stage has ended and the model has not grown yet."""

    def stop(training: Any) -> None:
        if training.session.progress.step == step:
            raise KeyboardInterrupt

    part = train("part", "--deterministic", hooks=Hooks(before_step=stop), **GROWING)
    assert part.code != 0
    done = resume(part.run)
    assert done.code == 0
    assert done.hashes("final") == whole.hashes("final")


def test_killed_while_it_grows(train: Train, whole: Trained, tmp_path: Path) -> None:
    """The old stage's checkpoint stands, and the next attempt grows again."""

    def die(path: Path) -> None:
        if "grown" in str(path):
            os._exit(9)

    run = killed(tmp_path / "runs", lambda: train(
        "k", "--deterministic", hooks=Hooks(disk=Disk(written=die)), **GROWING
    ))  # fmt: skip
    assert (run.checkpoints / "step_7").is_dir()
    assert not verify_folder(run.checkpoints / "step_7")
    done = resume(run)
    assert done.code == 0
    assert done.hashes("final") == whole.hashes("final")
    assert not list(run.checkpoints.glob(".tmp*"))


def test_a_full_disk_postpones_growth(train: Train) -> None:
    full = [True]

    def written(path: Path) -> None:
        if "grown" in str(path) and full:
            full.pop()
            raise OSError(28, "No space left on device")

    longer = {**GROWING, "train__max_steps": 40, "growth__stages": LATE}
    done = train("full", hooks=Hooks(disk=Disk(written=written)), **longer)
    assert done.code == 0
    warnings = [e["message"] for e in done.events if e["event"] == "warning"]
    assert any("could not grow" in message for message in warnings)
    # The stage's last checkpoint is the one after which it did grow.
    assert [e["step"] for e in done.events if e["event"] == "grown"] == [27]
    assert (done.run.checkpoints / "step_27").is_dir()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optim__schedule": "cosine"}, "growth.stages needs a stable learning rate"),
        ({"optim__decay_start": 0.5}, "is step 14 of 20, but a model can grow from step 8"),
        ({"growth__stages": '[{"until": 0.5, "hidden_size": 64}]'}, "a model only grows"),
        ({"growth__stages": '[{"until": 0.5, "layers": 1}]'}, "layers"),
        (
            {"growth__stages": '[{"until": 0.5}]'},
            "from 2-layers to full: The model has these sizes already",
        ),
        (
            {"growth__stages": r'[{"until": 0.5, "num_layers": 1, "name": "\u001b[31m"}]'},
            "is not made of letters",
        ),
        (
            {"growth__stages": '[{"until": 0.5, "num_layers": 1, "name": "warmup"}]'},
            "is one of warmup, full",
        ),
        (
            {
                "growth__stages": '[{"until": 0.4, "num_layers": 1, "name": "a"},'
                '{"until": 0.5, "num_layers": 1, "name": "a"}]'
            },
            "two stages of the same name",
        ),
        ({"growth__stages": '[{"until": 1.5, "num_layers": 1}]'}, "until"),
    ],
)
def test_stages_that_cannot_be_are_refused(
    train: Train, change: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FileNotFoundError):  # there is no run
        train("wrong", **{**GROWING, **change})
    assert words in capsys.readouterr().err


def test_the_guides_command(run_cli: RunCli, text_data: Path, tmp_path: Path) -> None:
    """train --start 100m --end 1b --steps N, as a dry run of a smaller ladder too."""
    common = ("--data-path", text_data, "--runs-dir", tmp_path, "--dry-run", "--device", "cpu")
    late = run_cli("train", "--start", "1m", "--end", "12m", "--steps", 1000, *common)
    assert late.code == 0, late.err
    assert "2 layers, width 384" in late.out
    assert "after step 600 it grows to" in late.out
    assert "stage 2-layers: steps 1 to 600" in late.out
    assert "steps 601 to 1,000" in late.out and "at the last stage" in late.out
    # Tokens of all steps; fewer FLOPs than with the last model from the start.
    total = next(line for line in late.out.splitlines() if line.startswith("in all 1,000 steps"))
    steps = int(re.findall(r"as many as ([\d,]+) steps of the last", total)[0].replace(",", ""))
    assert 400 < steps < 1000
    every = run_cli("train", "--start", "1m", "--end", "12m", "--recipe", "stages",
                    "--steps", 1000, *common)  # fmt: skip
    assert "after step 300" in every.out and "after step 600" in every.out
    one = run_cli("train", "--start", "1m", "--steps", 1000, *common)
    assert "grows" not in one.out
    for wrong, words in (
        (("--start", "1m", "--end", "1b"), "different ladders"),
        (("--start", "12m", "--end", "1m"), "only grows"),
        (("--start", "2m"), "is not one of 1m, 4m"),
        (("--start", "1m", "--config", "d20"), "both given"),
        (("--recipe", "stages"), "for --start and --end"),
    ):
        refused = run_cli("train", *wrong, *common)
        assert refused.code == 2 and words in refused.err


def test_a_rollback_goes_back_across_a_growth(train: Train) -> None:
    """No checkpoint of the larger model was saved yet, so the smaller one grows again."""
    left = [1]

    def hurt(session: Any, parts: list[Any]) -> None:
        if session.progress.step == 9 and left:
            parts[0].loss.fill_(float("nan"))
            left.pop()

    changed = {"optim__ema_decay": 0.9, "stability__nonfinite_steps": 1}
    left_at: dict[int, float | None] = {}

    def look(training: Any) -> None:
        left_at[training.session.progress.step] = training.writer.eta_seconds()

    hooks = Hooks(before_step=look, after_backward=hurt)
    done = train("back", hooks=hooks, **{**GROWING, **changed})
    assert done.code == 0
    told = [e["event"] for e in done.events if e["event"] in ("rolled_back", "grown")]
    assert told == ["grown", "rolled_back", "grown", "grown"]
    # The time left is not that of the smaller model's steps.
    assert left_at[13] is not None and left_at[14] is None and left_at[16] is not None
    assert (done.run.checkpoints / "ema").is_dir()
    assert not verify_folder(done.run.checkpoints / "ema")
