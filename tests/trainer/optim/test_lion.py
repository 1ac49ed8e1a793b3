"""Lion against its paper's algorithm, in plain arithmetic."""

from __future__ import annotations

import torch
from torch import nn

from trainer.config.optim import OptimConfig
from trainer.optim.optimizer import Optimizer
from trainer.optim.registry import parameter_rows


def test_every_step_is_the_papers() -> None:
    torch.manual_seed(0)
    named = {"weight": nn.Parameter(torch.randn(5, 3)), "bias": nn.Parameter(torch.randn(4))}
    optimizer = Optimizer(parameter_rows(OptimConfig(name="lion", weight_decay=0.3)), named)
    optimizer.allocate()
    weights = {name: tensor.detach().clone() for name, tensor in named.items()}
    moments = {name: torch.zeros_like(tensor) for name, tensor in named.items()}
    for rate in (0.1, 0.05, 0.02):
        for name, parameter in named.items():
            gradient = torch.randn(parameter.shape)
            parameter.grad = gradient
            sign = torch.sign(0.9 * moments[name] + 0.1 * gradient)
            decay = 0.3 if name == "weight" else 0.0
            weights[name] = weights[name] - rate * (sign + decay * weights[name])
            moments[name] = 0.99 * moments[name] + 0.01 * gradient
        optimizer.step(rate)
        for name, parameter in named.items():
            torch.testing.assert_close(parameter.data, weights[name])
            torch.testing.assert_close(optimizer.tensors()[f"exp_avg.{name}"], moments[name])
