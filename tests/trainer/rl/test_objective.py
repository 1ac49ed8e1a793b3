"""The objective of a batch of answers is what a reader of the formulas would compute one by one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.faults.counts import times
from trainer.config.model import ModelConfig
from trainer.config.rl import RlConfig
from trainer.data.batches import to_tensors
from trainer.model.language_model import LanguageModel
from trainer.model.loss import LossMemory
from trainer.rl.batches import RolloutBatches, Row
from trainer.rl.objective import PolicyObjective

CONTEXT = 21  # no multiple of what rows are padded to
IDS, KNOWN = 29, 26


def model_of(**more: Any) -> LanguageModel:
    config = ModelConfig(
        vocab_size=IDS, hidden_size=16, num_layers=1, num_heads=2, max_seq_len=CONTEXT, **more
    )
    model = LanguageModel(config, loss_memory=LossMemory(0, 5))  # five tokens at a time
    model.initialize(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.train()


LLAMA = {"num_kv_heads": 1, "intermediate_size": 24}
MODELS = {"llama": model_of(**LLAMA), "gpt2": model_of(flavour="gpt2")}


def naive_loss(model: LanguageModel, rows: list[Row], asked: RlConfig) -> Tensor:
    """Answer by answer, token by token."""
    total = torch.zeros(())
    for row in rows:
        if row.masked:
            continue
        for place, token in enumerate(row.answer):
            before = torch.tensor([[*row.prompt, *row.answer[:place]]])
            logits = model(before)[0, -1, :KNOWN] / asked.temperature
            logp = logits[token] - logits.exp().sum().log()
            old = logp.detach() if row.old is None else torch.tensor(float(row.old[place]))
            ratio = (logp - old).exp()
            high = 1 + (asked.clip_high or (0.28 if asked.loss == "grpo" else 4.0))
            if asked.loss == "grpo":
                clipped = min(max(ratio, 1 - asked.clip_low), high) * row.advantage
                term = -min(ratio * row.advantage, clipped)
            else:
                term = -min(ratio.item(), high) * row.advantage * logp
            if row.reference is not None:
                apart = float(row.reference[place]) - logp
                term += asked.kl_beta * ratio * (apart.exp() - apart - 1)
            total = total + term + 0 * logp
    return total / (len(rows) * asked.max_new_tokens)


@st.composite
def steps(draw: st.DrawFn) -> tuple[list[Row], RlConfig]:
    """The answers of a step, and settings."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    beta = draw(st.sampled_from([0.0, 0.5]))
    compared = beta > 0 or draw(st.booleans())
    several = draw(st.booleans())
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        prompt = draw(st.integers(1, 9))
        whole = CONTEXT - prompt + 1
        answer = draw(st.sampled_from([1, 2, 5, whole]))
        guess = random.normal(-3.0, 1.0, (2, answer)).astype(np.float32)
        rows.append(
            Row(
                tuple(random.integers(0, KNOWN, prompt).tolist()),
                tuple(random.integers(0, KNOWN, answer).tolist()),
                float(random.normal()),
                reference=guess[0] if compared else None,
                old=guess[1] if several else None,
                masked=draw(st.integers(0, 3)) == 0,
            )
        )
    asked = RlConfig(
        kl_beta=beta,
        loss=draw(st.sampled_from(["grpo", "cispo"])),
        temperature=draw(st.sampled_from([1.0, 0.7])),
        max_new_tokens=CONTEXT,
    )
    return rows, asked


@pytest.mark.parametrize("name", MODELS)
@given(step=steps(), size=st.integers(1, 5))
@settings(max_examples=times(6, 400), deadline=None)
def test_loss_and_gradient_are_those_of_the_formulas(
    name: str, step: tuple[list[Row], RlConfig], size: int
) -> None:
    """In micro-batches of `size`, padded, in another order, and with logits held in pieces."""
    (rows, asked), model = step, MODELS[name]
    weight = model.lm_head.weight
    source = RolloutBatches((), CONTEXT, IDS, len(rows))  # type: ignore[arg-type]
    source.fill(rows, 0, len(rows), 1, seed=1)
    objective = PolicyObjective(model, asked, KNOWN)
    total, tokens = torch.zeros(()), 0.0
    for first in range(0, len(rows), size):
        count = min(size, len(rows) - first)
        ids, targets, facts = to_tensors(source.batch(first, count), "cpu")
        losses = objective(ids, targets, weights_BT=facts)
        total = total + losses.total * count / len(rows)
        tokens += facts[:, 2].where(targets != -100, 0).sum().item() / len(rows)
        assert ("kl" in losses.named) == (rows[0].reference is not None)
        assert all(math.isfinite(value.item()) for value in losses.named.values())
    assert tokens == pytest.approx(1), "named figures are means over the step's tokens"
    expected = naive_loss(model, rows, asked)
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-5)
    if all(row.masked for row in rows):
        return
    (ours,) = torch.autograd.grad(total, weight)
    (theirs,) = torch.autograd.grad(expected, weight)
    most = theirs.abs().max().item()
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * most + 1e-7)


def test_every_answer_is_its_own_row_of_the_batch() -> None:
    """A row beside it, longer or shorter, does not change an answer's log-probabilities."""
    rows = [Row((1, 2, 3), tuple(range(4, 4 + n)), 1.0) for n in (1, 9, 18)]
    alone = []
    for row in rows:
        source = RolloutBatches((), CONTEXT, IDS, 1)  # type: ignore[arg-type]
        source.fill([row], 0, 1, 1, seed=1)
        ids, targets, facts = to_tensors(source.batch(0, 1), "cpu")
        alone.append(PolicyObjective(MODELS["llama"], RlConfig())(ids, targets, weights_BT=facts))
    source = RolloutBatches((), CONTEXT, IDS, 3)  # type: ignore[arg-type]
    source.fill(rows, 0, 3, 1, seed=1)
    ids, targets, facts = to_tensors(source.batch(0, 3), "cpu")
    together = PolicyObjective(MODELS["llama"], RlConfig())(ids, targets, weights_BT=facts)
    mean = sum(one.total for one in alone) / 3
    torch.testing.assert_close(together.total, mean, rtol=1e-4, atol=1e-6)
