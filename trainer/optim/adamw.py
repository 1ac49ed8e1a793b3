"""AdamW (Loshchilov & Hutter 2019) in torch's fused kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from trainer.config.optim import OptimConfig
from trainer.optim.interface import Hyperparameters, State, Update, zeros_for


@dataclass(frozen=True)
class AdamW:
    """Two moments per parameter, and the number of its updates for their bias correction."""

    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    honours_skip: ClassVar[bool] = True
    matrices_only: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"betas {self.beta1:g} and {self.beta2:g}, weight decay {self.weight_decay:g}"

    def new_state(self, parameter: Tensor) -> State:
        """Zero moments. The fused kernel wants its counter on the parameter's device too."""
        return {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": zeros_for(parameter),
            "exp_avg_sq": zeros_for(parameter),
        }

    def scratch(self, counts: Mapping[torch.Size, int]) -> int:
        """None: the kernel works in place."""
        return 0

    def update(self, update: Update, rate: float, skip: Tensor | None) -> None:
        """One step of torch's AdamW."""
        adamw(
            list(update.parameters),
            list(update.gradients),
            [state["exp_avg"] for state in update.states],
            [state["exp_avg_sq"] for state in update.states],
            [],
            [state["step"] for state in update.states],
            fused=True,
            found_inf=skip,
            amsgrad=False,
            beta1=self.beta1,
            beta2=self.beta2,
            lr=rate,
            weight_decay=self.weight_decay,
            eps=self.eps,
            maximize=False,
        )


def make(optim: OptimConfig, row: Hyperparameters) -> AdamW:
    """The rule of a row of the table."""
    beta1, beta2 = row.betas
    return AdamW(beta1, beta2, optim.eps, row.weight_decay)
