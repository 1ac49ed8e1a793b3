"""A second optimizer, for tests: plain SGD with momentum, which knows nothing of skipped steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainer.config.schema import OptimConfig
from trainer.optim.groups import Row
from trainer.optim.interface import State, Update


@dataclass(frozen=True)
class Momentum:
    """v = beta v + g; w = w - rate (v + decay w)."""

    beta: float
    decay: float
    honours_skip: ClassVar[bool] = False

    def new_state(self, parameter: Tensor) -> State:
        return {"velocity": torch.zeros_like(parameter)}

    def update(self, update: Update, rate: float, _skip: Tensor | None) -> None:
        for parameter, gradient, state in zip(*update, strict=True):
            state["velocity"].mul_(self.beta).add_(gradient)
            parameter.mul_(1 - rate * self.decay).sub_(state["velocity"], alpha=rate)


def rows(optim: OptimConfig) -> list[Row]:
    """Gains learn at twice the rate and do not decay."""
    return [Row(Momentum(optim.beta1, 0.0), "norm", rate=2.0), Row(Momentum(optim.beta1, 0.1))]
