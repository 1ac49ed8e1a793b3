"""An optimizer that the project does not know, registered in one place, through a whole run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import RunCli
from tests.trainer.loop.conftest import TINY, Train, as_flags, resume
from tests.trainer.optim import momentum
from trainer.loop.figures import Part
from trainer.loop.hooks import Hooks
from trainer.loop.session import Session
from trainer.loop.step import StepResult
from trainer.optim.kinds import OPTIMIZERS

SGD = {"optim__name": "sgd", "optim__learning_rate": 0.05}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIMIZERS, "sgd", momentum.KIND)


def poisoned(*steps: int) -> Hooks:
    """NaN in one gradient of these steps; checks that they change no bit."""
    before: dict[str, torch.Tensor] = {}

    def everything(session: Session) -> dict[str, torch.Tensor]:
        tensors = {**dict(session.model.named_parameters()), **session.optimizer.tensors()}
        return {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def after_backward(session: Session, _parts: Sequence[Part]) -> None:
        before.clear()
        if session.progress.samples // 4 + 1 in steps:
            session.model.lm_head.weight.grad[0, 0] = math.nan  # type: ignore[index]
            before.update(everything(session))

    def after_step(session: Session, result: StepResult) -> None:
        assert result.updated == (not before)
        after = everything(session)
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())

    return Hooks(after_backward=after_backward, after_step=after_step)


def test_it_trains_and_saves_its_own_state(train: Train) -> None:
    done = train("sgd", **SGD, train__max_steps=40)
    assert done.code == 0
    losses = done.metrics.series("loss").values
    assert losses[-5:].mean() < losses[:5].mean()
    saved = load_file(done.run.checkpoints / "final" / "optimizer.safetensors")
    assert "velocity.model.norm.weight" in saved
    assert not any(name.startswith("exp_avg") for name in saved)


def test_it_resumes_exactly(train: Train) -> None:
    whole = train("whole", "--deterministic", **SGD)
    one = whole.hashes("final")
    assert resume(whole.run, "--from", "step_4").hashes("final") == one


def test_bad_steps_are_skipped_and_rolled_back(train: Train) -> None:
    done = train("poisoned", hooks=poisoned(3, 6, 7, 8), **SGD)
    assert done.code == 0
    assert sum(e["event"] == "nonfinite" for e in done.events) == 4
    back = [e for e in done.events if e["event"] == "rolled_back"]
    assert [(e["from_step"], e["to_step"]) for e in back] == [(8, 4)]
    weights = load_file(done.run.checkpoints / "final" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_run_cannot_change_its_optimizer(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train("changed", **SGD)
    assert resume(first.run, "--max-steps", "16", "--set", "optim.name=adamw").code == 2
    assert "does not fit" in capsys.readouterr().err


def test_an_unknown_optimizer_is_refused_before_a_run_is_made(
    run_cli: RunCli, tmp_path: Path
) -> None:
    settings = as_flags({**TINY, "optim.name": "lyon"})
    where = tmp_path / "runs"
    output = run_cli("train", "--dataset", "synthetic", "--runs-dir", where, *settings)
    assert output.code == 2
    assert "'lyon' is not known; choose one of adamw, lion, muon, muon+adamw" in output.err
    assert not where.exists()
