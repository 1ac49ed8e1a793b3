"""Averages of the weights: their formulas, and a run that saves them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.config.optim import OptimConfig
from trainer.optim.averages import Averages, averages_of


def followed(steps: int, **settings: float) -> tuple[list[torch.Tensor], Averages, nn.Parameter]:
    """The weights after each of some steps, and the averages over them."""
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(5))
    averages = Averages(averages_of(OptimConfig(**settings)), {"w": parameter})
    averages.allocate()
    seen = []
    for step in range(1, steps + 1):
        with torch.no_grad():
            parameter.add_(torch.randn(5))
        seen.append(parameter.detach().clone())
        averages.update(step, steps)
    return seen, averages, parameter


def test_the_tail_is_the_mean_of_the_last_steps() -> None:
    for start, counted in ((0.7, 3), (0.0, 10), (0.95, 1)):
        seen, averages, _ = followed(10, tail_start=start)
        mean = torch.stack(seen[-counted:]).mean(0)
        torch.testing.assert_close(averages.tensors()["tail.w"], mean)


def test_the_exponential_average() -> None:
    seen, averages, _ = followed(30, ema_decay=0.5)
    expected = seen[0]
    for step, weights in enumerate(seen, start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights
    torch.testing.assert_close(averages.tensors()["ema.w"], expected)


def test_the_exponential_average_begins_with_the_first_weights_and_soon_forgets_them() -> None:
    torch.manual_seed(0)
    expected = torch.randn(5)  # what `followed` begins with
    seen, averages, _ = followed(5, ema_decay=0.99)
    for decay, weights in zip((2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15), seen, strict=True):
        expected = decay * expected + (1 - decay) * weights
    torch.testing.assert_close(averages.tensors()["ema.w"], expected)


def test_in_place_the_model_has_the_average_and_then_its_own_bits() -> None:
    seen, averages, parameter = followed(7, ema_decay=0.9, tail_start=0.2)
    saved = {name: tensor.clone() for name, tensor in averages.tensors().items()}
    with pytest.raises(KeyError), averages.in_place("ema"):
        assert torch.equal(parameter, saved["ema.w"])
        raise KeyError
    assert torch.equal(parameter, seen[-1])
    assert all(torch.equal(tensor, saved[name]) for name, tensor in averages.tensors().items())
