"""Optimizers by name, and the table of parameter groups that a configuration stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from shared.errors import UserError
from shared.text import one_line
from trainer.config.schema import GroupConfig, OptimConfig, default_rate
from trainer.optim import adamw, lion, muon
from trainer.optim.averages import averages_of
from trainer.optim.groups import Row
from trainer.optim.interface import Hyperparameters, Rule
from trainer.optim.optimizer import Optimizer


@dataclass(frozen=True)
class Kind:
    """An optimizer that can be chosen by name.

    `trains` finds the names of the only matrices it is good for; another optimizer trains the rest.
    `betas` are its own, where it does not use `optim.beta1` and `beta2`.
    """

    make: Callable[[OptimConfig, Hyperparameters], Rule]
    trains: str = ""
    betas: Callable[[OptimConfig], tuple[float, ...]] = lambda optim: (optim.beta1, optim.beta2)


#: The linear layers of the blocks, not the embeddings, the output head or small parts.
HIDDEN_MATRICES = (
    r"\b(q|k|v|qkv|o|gate|up|gate_up|down)_proj\.weight$|\b(c_attn|c_proj|c_fc)\.weight$"
)

#: By the name that `optim.name` and the table's rows give them.
OPTIMIZERS: dict[str, Kind] = {
    "adamw": Kind(adamw.make),
    "lion": Kind(lion.make),
    "muon": Kind(muon.make, HIDDEN_MATRICES, lambda optim: (optim.momentum,)),
}
#: Trains what an optimizer for some matrices leaves.
_REST = "adamw"


def names() -> list[str]:
    """What `optim.name` may be: an optimizer for everything, or one for some matrices with it."""
    whole = [name for name, kind in OPTIMIZERS.items() if not kind.trains]
    some = [name for name, kind in OPTIMIZERS.items() if kind.trains]
    return sorted([*whole, *some, *(f"{one}+{rest}" for one in some for rest in whole)])


def table(optim: OptimConfig) -> list[GroupConfig]:
    """The configured rows, or those that `optim.name` stands for. Raises UserError for an unknown
    name.
    """
    if optim.name not in names():
        raise UserError(
            f"optim.name {one_line(optim.name, 40)!r} is not known; choose one of "
            f"{', '.join(names())}."
        )
    if optim.groups is not None:
        return optim.groups
    first, _, rest = optim.name.partition("+")
    rows = []
    if OPTIMIZERS[first].trains:
        rows = [GroupConfig(pattern=OPTIMIZERS[first].trains, min_dims=2, optimizer=first)]
        first = rest or _REST
    # Matrices and embeddings decay; gains and biases do not.
    rows += [GroupConfig(min_dims=2, optimizer=first), GroupConfig(optimizer=first, weight_decay=0)]
    return rows


def with_table(optim: OptimConfig) -> OptimConfig:
    """The same with its table written out, so that config.yaml tells what trained what."""
    return optim.model_copy(update={"groups": table(optim)})


def parameter_rows(optim: OptimConfig) -> list[Row]:
    """The table with its rules. Raises UserError for an unknown optimizer."""
    return [_row(optim, row) for row in table(optim)]


def _row(optim: OptimConfig, row: GroupConfig) -> Row:
    kind = OPTIMIZERS.get(row.optimizer)
    if kind is None:
        raise UserError(
            f"The optimizer {one_line(row.optimizer, 40)!r} in optim.groups is not known; choose "
            f"one of {', '.join(sorted(OPTIMIZERS))}."
        )
    betas = kind.betas(optim) if row.betas is None else tuple(row.betas)
    wanted = len(kind.betas(optim))
    if len(betas) != wanted:
        raise UserError(
            f"A row of optim.groups gives {row.optimizer} {len(betas)} betas; it has {wanted}."
        )
    decay = optim.weight_decay if row.weight_decay is None else row.weight_decay
    rate = _rate(optim, row) / optim.learning_rate
    rule = kind.make(optim, Hyperparameters(betas, decay))
    return Row(rule, row.pattern, row.min_dims, rate)


def _rate(optim: OptimConfig, row: GroupConfig) -> float:
    """The peak learning rate of a row."""
    if row.learning_rate is not None:
        return row.learning_rate
    first, _, _ = optim.name.partition("+")
    if row.optimizer == first:
        return optim.learning_rate
    return optim.rest_learning_rate or default_rate(row.optimizer, optim.muon_scale)


def build_optimizer(parameters: Mapping[str, nn.Parameter], optim: OptimConfig) -> Optimizer:
    """The configured optimizer of these parameters, its state allocated."""
    optimizer = Optimizer(parameter_rows(optim), parameters, averages_of(optim))
    optimizer.allocate()
    return optimizer


def planned_optimizer(shapes: Mapping[str, tuple[int, ...]], optim: OptimConfig) -> Optimizer:
    """The configured optimizer for parameters of these names and shapes, without memory."""
    parameters = {
        name: nn.Parameter(torch.empty(shape, device="meta")) for name, shape in shapes.items()
    }
    return Optimizer(parameter_rows(optim), parameters, averages_of(optim))


def state_bytes(shapes: Mapping[str, tuple[int, ...]], optim: OptimConfig) -> int:
    """Bytes of the configured optimizer's state for parameters of these names and shapes."""
    return planned_optimizer(shapes, optim).bytes()
