"""A part that begins during a run, and a run that begins with the weights of such a run."""

from __future__ import annotations

import torch

from tests.trainer.loop.conftest import Train, resume
from tests.trainer.loop.test_exact_resume import stop_at
from trainer.loop.hooks import Hooks
from trainer.loop.session import Session
from trainer.loop.step import StepResult
from trainer.loop.training import Training
from trainer.model.parts.bitlinear import BEGUN

TERNARY = {
    "model__ternary": "true",
    "model__ternary_from": 0.5,
    "train__max_steps": 8,
    "optim__learning_rate": 1e-3,
    "optim__warmup_steps": 1,
    "eval__interval": 2,
    "checkpoint__interval": 2,
    "checkpoint__keep_last": 1,
}
SAID = "The weights are ternary from step"


def worse_from(step: int) -> Hooks:
    """Spoils the weights after `step`, so that every later loss is higher."""

    def before_step(training: Training) -> None:
        if training.session.progress.step == step:
            with torch.no_grad():
                training.session.model.model.embed_tokens.weight.mul_(20)

    return Hooks(before_step=before_step)


def test_what_was_best_before_a_part_began_is_not_best_any_more(train: Train) -> None:
    done = train("switch", hooks=worse_from(4), train__patience=1, **TERNARY)
    assert done.code == 0
    assert done.state.current_step == 8, "patience counts from where the part began"
    assert done.state.best_step is not None
    assert done.state.best_step > 4
    best = (done.run.checkpoints / "best").resolve().name
    assert best == f"step_{done.state.best_step}"
    assert not (done.run.checkpoints / "step_4").exists(), "nothing keeps it"

    # Also where the first checkpoint since then was not evaluated.
    stopped = train("stopped", hooks=stop_at(5), **TERNARY)
    assert stopped.code == 75
    assert (stopped.run.checkpoints / "best").resolve().name == "step_5"

    # A longer run would begin later, but has begun already.
    assert resume(done.run, "--max-steps", "14").code == 0
    assert done.log.count(SAID) == 1

    begun: list[float] = []

    def after_step(session: Session, _result: StepResult) -> None:
        begun.append(session.model.get_parameter(BEGUN).item())

    flags = ("--begin-from", str(done.run.path))
    again = train("again", *flags, hooks=Hooks(after_step=after_step), **TERNARY)
    assert again.code == 0
    assert begun == [0, 0, 0, 0, 1, 1, 1, 1]
    assert f"{SAID} 5 on" in again.log
