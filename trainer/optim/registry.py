"""Optimizers by the name that `optim.name` gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from shared.errors import UserError
from shared.text import one_line
from trainer.config.schema import OptimConfig
from trainer.optim import adamw
from trainer.optim.groups import Row
from trainer.optim.optimizer import Optimizer

#: Each makes the table of parameter groups from the configuration.
OPTIMIZERS: dict[str, Callable[[OptimConfig], list[Row]]] = {"adamw": adamw.rows}


def parameter_rows(optim: OptimConfig) -> list[Row]:
    """The parameter groups of the configured optimizer. Raises UserError for an unknown name."""
    if optim.name not in OPTIMIZERS:
        known = ", ".join(sorted(OPTIMIZERS))
        raise UserError(
            f"optim.name {one_line(optim.name, 40)!r} is not known; choose one of {known}."
        )
    return OPTIMIZERS[optim.name](optim)


def build_optimizer(parameters: Mapping[str, nn.Parameter], optim: OptimConfig) -> Optimizer:
    """The configured optimizer of these parameters, its state allocated."""
    optimizer = Optimizer(parameter_rows(optim), parameters)
    optimizer.allocate()
    return optimizer


def state_bytes(shapes: Mapping[str, tuple[int, ...]], optim: OptimConfig) -> int:
    """Bytes of the configured optimizer's state for parameters of these names and shapes."""
    parameters = {
        name: nn.Parameter(torch.empty(shape, device="meta")) for name, shape in shapes.items()
    }
    return Optimizer(parameter_rows(optim), parameters).bytes()
