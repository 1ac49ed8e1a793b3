"""What makes training faster or smaller does not change what is learnt: 200 losses of every way.

The ways are compared with the plain one of the same process, in fp32: losses and gradient norms may
differ by the rounding of sums in another order, and by what 200 steps make of it. The plain losses
are compared with a file, loosely: another processor, another rounding. `python -m
tests.trainer.distributed.test_ways_agree` writes it anew after a wanted change of the numerics.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.faults.counts import SOAK
from tests.trainer.distributed.conftest import Ranks
from tests.trainer.loop.conftest import TINY, Trained, as_flags
from trainer.config.resolve import resolve
from trainer.loop.micro_batch import MicroBatch
from trainer.loop.plan import plan
from trainer.loop.session import Session, build
from trainer.loop.step import train_step
from trainer.model.loss import LossMemory

pytestmark = pytest.mark.slow

STEPS = 200
GOLDEN = Path(__file__).with_name("golden_losses.json")
WINDOW = 20  # steps whose mean is compared with the file
#: How far apart a way may be from the plain one, relatively: nothing is summed in another order;
#: sums are; kernels are fused and round otherwise.
SAME, REORDERED, FUSED = 1e-6, 1e-4, 1e-3
OTHER_PROCESSOR = 0.01
SETTINGS: Mapping[str, Any] = TINY | {
    "data.dataset": "synthetic",
    "model.vocab_size": 61,
    "train.max_steps": STEPS,
    "train.dtype": "fp32",
    "train.device": "cpu",
    "train.compile": False,
    "optim.warmup_steps": 20,
    "optim.learning_rate": 3e-3,
    "eval.interval": 10**9,
    "checkpoint.interval": 10**9,
}
GPT2 = {"model.flavour": "gpt2", "model.num_kv_heads": 4}


def nothing(_: Session) -> None:
    """The session as it was built."""


def head_in_chunks(session: Session) -> None:
    """7 of 64 tokens at a time: the last chunk is shorter."""
    session.model.loss_memory = LossMemory(logits=0, chunk=7)


def compiled_by(backend: str) -> Callable[[Session], None]:
    """The graph that the compiler sees, run by `backend`."""

    def compile_(session: Session) -> None:
        torch.compiler.reset()
        forward = torch.compile(session.learner.eager, backend=backend)
        session.learner = replace(session.learner, forward=forward)

    return compile_


@dataclass(frozen=True)
class Way:
    """What differs from the plain training, and by how much the losses may."""

    tolerance: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Session], None] = nothing


WAYS = {
    "accumulated": Way(REORDERED, {"train.batch_size": 2, "train.accumulation_steps": 2}),
    "traced": Way(REORDERED, prepare=compiled_by("aot_eager")),
    "recomputed, chunked, in parts": Way(
        REORDERED, {"train.grad_checkpoint_every": 1, "train.micro_batch": 3}, head_in_chunks
    ),
}
#: In `make soak`: what the others have in one, and a C++ compiler takes half a minute.
MORE = {
    "every block recomputed": Way(SAME, {"train.grad_checkpoint_every": 1}),
    "head in chunks": Way(REORDERED, prepare=head_in_chunks),
    "blocks recomputed in pairs": Way(SAME, {"train.grad_checkpoint_every": 2}),
    "sequence by sequence": Way(REORDERED, {"train.micro_batch": 1}),
    "compiled": Way(FUSED, prepare=compiled_by("inductor")),
    "compiled, recomputed": Way(
        FUSED, {"train.grad_checkpoint_every": 1}, prepare=compiled_by("inductor")
    ),
}


def curves(settings: Mapping[str, Any], prepare: Callable[[Session], None] = nothing) -> np.ndarray:
    """Losses and gradient norms of 200 steps, (2, 200)."""
    session = build(plan(resolve(dict(settings))))
    prepare(session)
    size = session.config.train.micro_batch or session.config.train.batch_size
    micro_batch = MicroBatch(int(size))
    steps = [train_step(session, micro_batch) for _ in range(STEPS)]
    session.feed.close()
    return np.array([[step.loss for step in steps], [step.gradient_norm for step in steps]])


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    """The training that the others are compared with."""
    return curves(SETTINGS)


@pytest.fixture(scope="module")
def plain_gpt2() -> np.ndarray:
    """The same with the other architecture."""
    return curves({**SETTINGS, **GPT2})


@pytest.mark.parametrize("name", [*WAYS, *(MORE if SOAK else ())])
def test_every_way_learns_the_same(name: str, plain: np.ndarray) -> None:
    way = (WAYS | MORE)[name]
    found = curves({**SETTINGS, **way.settings}, way.prepare)
    np.testing.assert_allclose(found, plain, rtol=way.tolerance)


def test_so_does_the_other_architecture(plain_gpt2: np.ndarray) -> None:
    way = WAYS["recomputed, chunked, in parts"]
    found = curves({**SETTINGS, **GPT2, **way.settings}, way.prepare)
    np.testing.assert_allclose(found, plain_gpt2, rtol=way.tolerance)


@pytest.mark.parametrize("parallel", ["ddp", *(["fsdp"] if SOAK else [])])
def test_two_ranks_learn_the_same(ranks: Ranks, plain: np.ndarray, parallel: str) -> None:
    settings = {**SETTINGS, "train.parallel": parallel}
    arguments = ["train", "--dataset", "synthetic", "--name", parallel]
    arguments += ["--runs-dir", str(ranks.runs_dir)]
    arguments += as_flags(settings)
    started = ranks.start(2, *arguments)
    assert started.codes() == [0, 0], started.said(0) + started.said(1)
    metrics = Trained(ranks.find(parallel), 0).metrics
    found = np.array([metrics.series(key).values for key in ("loss", "gradient_norm")])
    np.testing.assert_allclose(found, plain, rtol=REORDERED)


def test_the_losses_are_those_of_the_file(plain: np.ndarray, plain_gpt2: np.ndarray) -> None:
    """Within 1 %, on any processor: a change of the numerics is meant, and the file is too."""
    golden = json.loads(GOLDEN.read_text())
    for name, found in (("llama", plain), ("gpt2", plain_gpt2)):
        np.testing.assert_allclose(windows(found), golden[name], rtol=OTHER_PROCESSOR)
        assert golden[name][-1] < 0.9 * golden[name][0]


def windows(found: np.ndarray) -> list[float]:
    """The mean losses of 20 steps each."""
    return [round(float(mean), 6) for mean in found[0].reshape(-1, WINDOW).mean(axis=1)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    made = {"llama": curves(SETTINGS), "gpt2": curves({**SETTINGS, **GPT2})}
    GOLDEN.write_text(json.dumps({name: windows(found) for name, found in made.items()}) + "\n")
