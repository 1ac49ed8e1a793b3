"""The loss of judged answers, and the batches that it is computed from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from trainer.config.rl import RlConfig
from trainer.rl.batches import IGNORED, RolloutBatches, Row
from trainer.rl.loss import normalized, token_terms

ONE = torch.ones(1, 1)


def loss_of(now: float, old: float, advantage: float, **settings: Any) -> tuple[float, float]:
    """The loss of a token by its log-probabilities, and its gradient."""
    logps = torch.full((1, 1), now, requires_grad=True)
    terms = token_terms(logps, old * ONE, now * ONE, advantage * ONE, RlConfig(**settings))
    (gradient,) = torch.autograd.grad(terms.loss.sum(), logps, allow_unused=True)
    return terms.loss.item(), 0.0 if gradient is None else gradient.item()


def test_an_answer_by_the_model_itself_has_the_plain_policy_gradient() -> None:
    for kind in ("grpo", "cispo"):
        assert loss_of(-1.0, -1.0, 0.5, loss=kind)[1] == pytest.approx(-0.5)


def test_grpo_stops_pushing_outside_of_its_bounds() -> None:
    up = math.log(1.5)
    assert loss_of(-1.0, -1.0 - up, 1.0, clip_high=0.28) == pytest.approx((-1.28, 0.0))
    assert loss_of(-1.0, -1.0 + up, -1.0, clip_low=0.2) == pytest.approx((0.8, 0.0))
    loss, gradient = loss_of(-1.0, -1.0 - up, -1.0)
    assert (loss, gradient) == pytest.approx((1.5, 1.5)), "what went the wrong way is pulled back"


def test_cispo_keeps_the_gradient_of_every_token() -> None:
    up = math.log(10.0)
    assert loss_of(-1.0, -1.0 - up, 1.0, loss="cispo")[1] == pytest.approx(-5.0)
    assert loss_of(-1.0, -1.0 - up, -1.0, loss="cispo")[1] == pytest.approx(5.0)


def test_the_divergence_is_zero_at_the_reference_and_pulls_back_to_it() -> None:
    logps = torch.tensor([[-1.0, -2.0, -0.5]], requires_grad=True)
    reference = torch.tensor([[-1.0, -1.0, -1.0]])
    settings = RlConfig(kl_beta=1.0)
    terms = token_terms(logps, logps.detach(), reference, torch.zeros(1, 1), settings)
    assert terms.kl[0].tolist() == pytest.approx([0, math.e - 2, math.exp(-0.5) - 0.5])
    (gradient,) = torch.autograd.grad(terms.loss.sum(), logps)
    assert gradient[0].tolist() == pytest.approx([0, -1, 0.5]), "the log-ratio, without bias"


def test_the_mean_is_over_answers_and_a_constant_length() -> None:
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    assert normalized(torch.ones(2, 3), mask, 8).item() == 4 / 16


class Nothing:
    """Prompts that are not asked for."""


def rows(lengths: list[int], **more: Any) -> list[Row]:
    return [Row((1, 2), tuple(range(3, 3 + n)), float(n), **more) for n in lengths]


def filled(lengths: list[int], per_step: int, epochs: int = 1, **more: Any) -> RolloutBatches:
    source = RolloutBatches(Nothing(), 16, 99, len(lengths))  # type: ignore[arg-type]
    source.fill(rows(lengths, **more), 40, per_step, epochs, seed=7)
    return source


def test_targets_are_the_answers_tokens() -> None:
    old = np.array([-1.0, -2.0], dtype=np.float32)
    inputs, targets, more = filled([2], 1, old=old, reference=old / 2).batch(40, 1)
    assert inputs[0, :4].tolist() == [1, 2, 3, 0]
    assert targets[0, :4].tolist() == [IGNORED, 3, 4, IGNORED]
    assert more[0, 0, 0] == 2.0
    assert more[0, 1, 1:3].tolist() == [-1.0, -2.0]
    assert more[0, 3, 1:3].tolist() == [-0.5, -1.0]


def test_a_row_never_outgrows_the_context() -> None:
    assert filled([15], 1).batch(40, 1)[0].shape == (1, 16)
    source = RolloutBatches(Nothing(), 13, 99, 1)  # type: ignore[arg-type]
    source.fill(rows([12]), 0, 1, 1, seed=7)
    assert source.batch(0, 1)[0].shape == (1, 13), "rows are padded to a multiple of 8 else"


def test_a_masked_answer_has_no_advantage() -> None:
    more = filled([2, 3], 2, masked=True).batch(40, 2)[2]
    assert np.isnan(more[:, 0]).all()


def test_every_epoch_gives_every_answer_once_in_other_steps() -> None:
    lengths = [1, 2, 3, 4, 5, 6, 7, 8]
    source = filled(lengths, per_step=4, epochs=2)
    steps = [source.batch(40 + 4 * n, 4)[2][:, 0, 0].tolist() for n in range(4)]
    assert sorted(steps[0] + steps[1]) == sorted(steps[2] + steps[3]) == lengths
    assert set(steps[0]) not in (set(steps[2]), set(steps[3]))
    assert all(step == sorted(step) for step in steps), "by length, so that little is padding"


def test_parts_of_a_step_have_the_share_of_all_its_tokens() -> None:
    source = filled([1, 3], per_step=2)
    assert [source.batch(40 + n, 1)[2][0, 2, 0] for n in (0, 1)] == [0.5, 0.5]


def test_before_an_iteration_a_batch_is_as_long_as_any() -> None:
    source = RolloutBatches(Nothing(), 16, 99, 4)  # type: ignore[arg-type]
    inputs, targets, more = source.batch(0, 3)
    assert inputs.shape == targets.shape == (3, 16)
    assert more.shape == (3, 4, 16)
