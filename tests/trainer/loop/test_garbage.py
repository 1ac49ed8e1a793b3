"""Garbage is collected where the loop wants it, and no step leaves memory to it."""

from __future__ import annotations

import gc

import pytest
import torch

from tests.trainer.loop.conftest import GPT2
from tests.trainer.loop.test_step import session
from trainer.loop.garbage import EVERY, Garbage
from trainer.loop.micro_batch import MicroBatch
from trainer.loop.step import train_step

KINDS: dict[str, dict[str, object]] = {
    "gpt2 with dropout": GPT2,
    "accumulation in bf16": {"train.accumulation_steps": 2, "train.dtype": "bf16"},
    "every part": {"model.ternary": True, "model.hyper_streams": 2, "model.mtp_heads": 1},
    "collider": {"train.collider": True},
    "recomputed, with an average": {"train.grad_checkpoint_every": 1, "optim.ema_decay": 0.9},
    "muon and lion": {"optim.name": "muon+lion"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_leaves_no_tensor_in_a_cycle(kind: str) -> None:
    """It would stay until the next collection, and memory is what a step has least of."""
    made, micro_batch = session(**KINDS[kind]), MicroBatch(2)
    train_step(made, micro_batch)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        train_step(made, micro_batch)
        gc.collect()
        assert not [kept for kept in gc.garbage if isinstance(kept, torch.Tensor)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


class Knot:
    """Garbage of a cycle."""

    def __init__(self, untied: list[int]) -> None:
        self.itself, self._untied = self, untied

    def __del__(self) -> None:
        self._untied.append(1)


def test_it_is_collected_when_something_is_due_or_now_and_then() -> None:
    untied: list[int] = []
    garbage = Garbage()
    with garbage:
        assert not gc.isenabled()
        Knot(untied)
        for _ in range(EVERY - 1):
            garbage.collect_if(due=False)
        assert not untied
        garbage.collect_if(due=False)
        assert untied == [1]
        Knot(untied)
        garbage.collect_if(due=True)
        assert untied == [1, 1]
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
