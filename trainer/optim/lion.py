"""Lion (Chen et al. 2023): the sign of an interpolation between momentum and gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainer.config.optim import OptimConfig
from trainer.optim.interface import Hyperparameters, State, Update, assign_unless, zeros_for


@dataclass(frozen=True)
class Lion:
    """w = (1 - rate decay) w - rate sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g."""

    beta1: float
    beta2: float
    weight_decay: float
    honours_skip: ClassVar[bool] = True
    matrices_only: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"betas {self.beta1:g} and {self.beta2:g}, weight decay {self.weight_decay:g}"

    def new_state(self, parameter: Tensor) -> State:
        """One zero moment."""
        return {"exp_avg": zeros_for(parameter)}

    def scratch(self, counts: Mapping[torch.Size, int]) -> int:
        """The signs of all."""
        return sum(4 * count * shape.numel() for shape, count in counts.items())

    def update(self, update: Update, rate: float, skip: Tensor | None) -> None:
        """One step of Lion."""
        parameters: list[Tensor] = list(update.parameters)
        gradients = list(update.gradients)
        moments = [state["exp_avg"] for state in update.states]
        signs = torch._foreach_lerp(moments, gradients, 1 - self.beta1)
        torch._foreach_sign_(signs)
        if skip is None:
            torch._foreach_mul_(parameters, 1 - rate * self.weight_decay)
            torch._foreach_add_(parameters, signs, alpha=-rate)
            torch._foreach_lerp_(moments, gradients, 1 - self.beta2)
            return
        moved = torch._foreach_mul(parameters, 1 - rate * self.weight_decay)
        torch._foreach_add_(moved, signs, alpha=-rate)
        for parameter, value in zip(parameters, moved, strict=True):
            assign_unless(skip, parameter, value)
        for moment, gradient in zip(moments, gradients, strict=True):
            assign_unless(skip, moment, moment.lerp(gradient, 1 - self.beta2))


def make(_optim: OptimConfig, row: Hyperparameters) -> Lion:
    """The rule of a row of the table."""
    beta1, beta2 = row.betas
    return Lion(beta1, beta2, row.weight_decay)
