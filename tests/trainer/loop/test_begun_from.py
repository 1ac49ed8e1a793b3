"""A run that began with the weights of another one, and rolls back to its start."""

from __future__ import annotations

import math

import torch
from safetensors.torch import load_file

from tests.trainer.loop.conftest import Train
from trainer.loop.hooks import Hooks
from trainer.loop.session import Session


def test_rolling_back_to_the_start_brings_the_weights_back(train: Train) -> None:
    source = train("source", train__max_steps=1)
    steps = 0

    def spoil(session: Session, _parts: object) -> None:
        nonlocal steps
        steps += 1
        if steps <= 3:
            next(iter(session.parameters.values())).grad.fill_(math.nan)  # type: ignore[union-attr]

    flags = ("--begin-from", str(source.run.path))
    still = {
        "checkpoint__interval": 100,
        "optim__warmup_steps": 10**9,
        "optim__weight_decay": 0,
        "train__max_steps": 5,
    }
    begun = train("begun", *flags, hooks=Hooks(after_backward=spoil), **still)
    assert [e["to_step"] for e in begun.events if e["event"] == "rolled_back"] == [0]
    ours, theirs = (
        load_file(t.run.checkpoints / "final" / "model.safetensors") for t in (begun, source)
    )
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)
