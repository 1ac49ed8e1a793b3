"""The loss of pairs of answers, against its formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.config.schema import PreferenceConfig
from trainer.model.language_model import LanguageModel
from trainer.model.loss import IGNORED, LossMemory
from trainer.model.preference import PreferenceObjective, answer_log_probs, preference_losses

SHAPE = ModelConfig(
    vocab_size=17, hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, max_seq_len=16
)
LOGPS = torch.tensor([-3.0, -5.0, -7.5, -2.0, -1.0, -1.5], requires_grad=True)
REFERENCE = torch.tensor([-4.0, -4.5, -6.0, -3.0, -1.5, -1.0])
TOKENS = torch.tensor([2, 5, 3, 1, 4, 2])


def written_out(kind: str, beta: float, e: float) -> float:
    """The mean over the three pairs, a number at a time."""
    total = 0.0
    for row in (0, 2, 4):
        ratios = [float(LOGPS.detach()[n] - REFERENCE[n]) for n in (row, row + 1)]
        if kind == "ipo":
            ratios = [r / int(TOKENS[n]) for r, n in zip(ratios, (row, row + 1), strict=True)]
        delta = ratios[0] - ratios[1]
        if kind == "sigmoid":
            right = 1 / (1 + math.exp(-beta * delta))
            total -= (1 - e) * math.log(right) + e * math.log(1 - right)
        elif kind == "hinge":
            total += max(0.0, 1 - beta * delta)
        else:
            total += (delta - 1 / (2 * beta)) ** 2
    return total / 3


@pytest.mark.parametrize(
    ("kind", "beta", "smoothing"),
    [("sigmoid", 0.1, 0.0), ("sigmoid", 0.7, 0.2), ("hinge", 0.5, 0.0), ("ipo", 0.2, 0.0)],
)
def test_the_loss_is_the_formula(kind: str, beta: float, smoothing: float) -> None:
    settings = PreferenceConfig(loss=kind, beta=beta, label_smoothing=smoothing)  # type: ignore[arg-type]
    losses = preference_losses(LOGPS, REFERENCE, TOKENS, settings)
    assert losses.total.item() == pytest.approx(written_out(kind, beta, smoothing), rel=1e-6)
    assert losses.counted.item() == 3
    (gradient,) = torch.autograd.grad(losses.total, LOGPS)
    assert gradient.isfinite().all()
    assert gradient[0] < 0 < gradient[1], "the preferred answer becomes likelier"
    named = {name: value.item() for name, value in losses.named.items()}
    rewards = (beta * (LOGPS.detach() - REFERENCE)).tolist()
    assert named["rewards/chosen"] == pytest.approx(sum(rewards[0::2]) / 3)
    assert named["rewards/rejected"] == pytest.approx(sum(rewards[1::2]) / 3)
    assert named["rewards/margins"] == pytest.approx(
        named["rewards/chosen"] - named["rewards/rejected"], abs=1e-6
    )
    assert named["rewards/accuracies"] == pytest.approx(2 / 3)
    assert named["logps/chosen"] == pytest.approx((-3.0 - 7.5 - 1.0) / 3)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 17, (4, 9), generator=generator)
    targets = torch.where(torch.arange(8) < 3, IGNORED, ids[:, 1:])
    targets[2, 6:] = IGNORED
    return ids[:, :-1], targets


def test_log_probs_are_sums_over_the_answer_however_many_logits_fit() -> None:
    ids, targets = batch()
    found, gradients = [], []
    for memory in (LossMemory(), LossMemory(logits=1, chunk=1)):
        model = LanguageModel(SHAPE, loss_memory=memory)
        model.initialize(3)
        logps = answer_log_probs(model, ids, targets)
        logps.sum().backward()
        found.append(logps.detach())
        gradients.append(model.lm_head.weight.grad)
    with torch.no_grad():
        every = model(ids).log_softmax(dim=-1)
    for row in range(4):
        kept = [n for n in range(8) if targets[row, n] != IGNORED]
        expected = sum(float(every[row, n, targets[row, n]]) for n in kept)
        assert found[0][row].item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_its_own_reference_gives_the_loss_of_a_coin() -> None:
    model = LanguageModel(SHAPE)
    model.initialize(3)
    ids, targets = batch()
    with torch.no_grad():
        reference = answer_log_probs(model, ids, targets)
    losses = PreferenceObjective(model, PreferenceConfig())(ids, targets, weights_BT=reference)
    assert losses.total.item() == pytest.approx(math.log(2), rel=1e-6)
