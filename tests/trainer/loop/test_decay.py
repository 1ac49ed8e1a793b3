"""`--decay-from`: branches of a decay off a stable run."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.checkpoints.manifest import file_sha256
from tests.conftest import RunCli
from tests.trainer.loop.conftest import Train, find
from tests.trainer.loop.test_patience import RESTLESS

STABLE = {"optim__schedule": "constant", "optim__min_lr": 0.0, "train__max_steps": 8}


def test_a_branch_equals_the_run_that_decays_by_itself(train: Train, run_cli: RunCli) -> None:
    trunk = train("trunk", "--deterministic", **STABLE)
    where = trunk.run.path.parent
    before = trunk.hashes("final")
    whole = train(
        "whole",
        "--deterministic",
        **{**STABLE, "optim__schedule": "wsd", "optim__decay_step": 8, "train__max_steps": 12},
    )
    step_8 = str(trunk.run.checkpoints / "step_8")
    for _ in range(2):
        done = run_cli("train", "--decay-from", step_8, "--max-steps", 12, "--runs-dir", where)
        assert done.code == 0, done.err
    branch = find(where, "trunk-decay")
    weights = [
        run / "final" / "model.safetensors" for run in (branch.checkpoints, whole.run.checkpoints)
    ]
    assert file_sha256(weights[0]) == file_sha256(weights[1])
    assert trunk.hashes("final") == before
    # Without --max-steps the decay takes the last fifth.
    done = run_cli("train", "--decay-from", f"{trunk.run.run_id}:8", "--name", "third",
                   "--set", "optim.decay_shape=linear", "--runs-dir", where)  # fmt: skip
    assert done.code == 0, done.err
    third = find(where, "third")
    state = third.read_state()
    assert state is not None
    assert (state.current_step, state.max_steps) == (10, 10)
    assert "decay_step: 8" in third.config_path.read_text()
    done = run_cli("train", "--decay-from", f"{trunk.run.run_id}:4", "--dry-run",
                   "--set", "optim.decay_start=0.4", "--runs-dir", where)  # fmt: skip
    assert done.code == 0 and "max_steps: 10" in done.out, done.out


@pytest.mark.parametrize(
    ("settings", "step", "words"),
    [
        ({"optim__schedule": "cosine"}, 8, "begun to decay already; train the trunk with"),
        ({"optim__schedule": "wsd", "optim__decay_start": 0.5}, 8, "choose one up to step 6"),
        ({**STABLE, "optim__warmup_steps": 6}, 4, "still in the warmup of 6 steps"),
    ],
)
def test_what_is_not_stable_is_refused(
    train: Train, run_cli: RunCli, settings: dict[str, object], step: int, words: str
) -> None:
    trunk = train("unstable", **settings)
    where = trunk.run.path.parent
    refused = run_cli("train", "--decay-from", f"unstable:{step}", "--runs-dir", where)
    assert refused.code == 2
    assert words in refused.err
    assert len(list(where.glob("unstable*"))) == 1


def test_a_branch_has_its_own_time_and_patience(train: Train, run_cli: RunCli) -> None:
    trunk = train("early", **{**RESTLESS, "train__patience": 1})
    assert trunk.state.evaluations_without_improvement == 1
    where, step = trunk.run.path.parent, trunk.state.current_step
    done = run_cli(
        "train", "--decay-from", f"early:{step}", "--max-steps", step + 9, "--max-hours", 1e-7,
        "--runs-dir", where,
    )  # fmt: skip
    assert done.code == 0, done.err
    state = find(where, "early-decay").read_state()
    assert state is not None
    assert state.exit is not None
    # The evaluation that follows the end of the time does not make it an early stop.
    assert state.exit.reason.startswith(f"reached step {step + 1} of {step + 9} in 1e-07 hours")
    assert state.evaluations_without_improvement == 0
    # The trunk's best loss is not the branch's.
    assert trunk.state.best_step is not None
    assert trunk.state.best_step < step
    assert (state.best_step, state.best_checkpoint) == (step + 1, f"step_{step + 1}")


def test_another_optimizer_is_refused_before_there_is_a_run(train: Train, run_cli: RunCli) -> None:
    source = train("source", train__max_steps=1)
    trunk = train("trunk", "--begin-from", str(source.run.path), **STABLE)
    where = trunk.run.path.parent
    decay = ("train", "--decay-from", "trunk", "--max-steps", 12, "--runs-dir", where)
    for more in (("--dry-run",), ()):
        refused = run_cli(*decay, "--optimizer", "lion", *more)
        assert refused.code == 2
        assert "saved optimizer state" in refused.err
    assert not list(where.glob("trunk-decay*"))
    # A trunk that itself began from another run is compared like any other.
    told = run_cli(*decay, "--seq-len", 8, "--dry-run")
    assert told.code == 0
    assert "the sequence length was 16 and is 8" in told.out


def test_wrong_use(run_cli: RunCli, tmp_path: Path) -> None:
    for option in (("--config", "d20"), ("--begin-from", "x"), ("--resume", "x"), ("--data", "x")):
        refused = run_cli("train", "--decay-from", "x", *option, "--runs-dir", tmp_path)
        assert refused.code == 2
        assert f"--decay-from and {option[0]} are both given" in refused.err
