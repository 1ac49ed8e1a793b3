"""A second optimizer, for tests: plain SGD with momentum, which knows nothing of skipped steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainer.config.optim import OptimConfig
from trainer.optim.interface import Hyperparameters, State, Update
from trainer.optim.kinds import Kind


@dataclass(frozen=True)
class Momentum:
    """v = beta v + g; w = w - rate (v + decay w)."""

    beta: float
    decay: float
    honours_skip: ClassVar[bool] = False
    matrices_only: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"momentum {self.beta:g}, weight decay {self.decay:g}"

    def scratch(self, counts: Mapping[torch.Size, int]) -> int:
        """Nothing."""
        return 0

    def new_state(self, parameter: Tensor) -> State:
        return {"velocity": torch.zeros_like(parameter)}

    def update(self, update: Update, rate: float, _skip: Tensor | None) -> None:
        for parameter, gradient, state in zip(*update[:3], strict=True):
            state["velocity"].mul_(self.beta).add_(gradient)
            parameter.mul_(1 - rate * self.decay).sub_(state["velocity"], alpha=rate)


def make(_optim: OptimConfig, row: Hyperparameters) -> Momentum:
    return Momentum(row.betas[0], row.weight_decay)


KIND = Kind(make, betas=lambda optim: (optim.beta1,))
