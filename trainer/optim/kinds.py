"""Optimizers by name, and the table of parameter groups that a name stands for. Loads no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import UserError
from shared.text import one_line
from trainer.config.optim import GroupConfig, OptimConfig

if TYPE_CHECKING:
    from trainer.optim.interface import Hyperparameters, Rule

    Make = Callable[[OptimConfig, Hyperparameters], Rule]


@dataclass(frozen=True)
class Kind:
    """An optimizer that can be chosen by name.

    `trains` finds the names of the only matrices it is good for; another optimizer trains the rest.
    `betas` are its own, where it does not use `optim.beta1` and `beta2`.
    """

    make: Make
    trains: str = ""
    betas: Callable[[OptimConfig], tuple[float, ...]] = lambda optim: (optim.beta1, optim.beta2)


def _from(module: str) -> Make:
    """`make` of a module of this package, which is imported only then."""

    def make(optim: OptimConfig, given: Hyperparameters) -> Rule:
        rule: Rule = importlib.import_module(f"trainer.optim.{module}").make(optim, given)
        return rule

    return make


#: The linear layers of the blocks, not the embeddings, the output head or small parts; and LoRA's
#: matrices.
HIDDEN_MATRICES = (
    r"\b(q|k|v|qkv|o|gate|up|gate_up|down)_proj\.weight$|\b(c_attn|c_proj|c_fc)\.weight$"
    r"|\.lora_[AB]\.weight$"
)

#: By the name that `optim.name` and the table's rows give them.
OPTIMIZERS: dict[str, Kind] = {
    "adamw": Kind(_from("adamw")),
    "lion": Kind(_from("lion")),
    "muon": Kind(_from("muon"), HIDDEN_MATRICES, lambda optim: (optim.momentum,)),
}
#: Trains what an optimizer for some matrices leaves.
_REST = "adamw"


def names() -> list[str]:
    """What `optim.name` may be: an optimizer for everything, or one for some matrices with it."""
    whole = [name for name, kind in OPTIMIZERS.items() if not kind.trains]
    some = [name for name, kind in OPTIMIZERS.items() if kind.trains]
    return sorted([*whole, *some, *(f"{one}+{rest}" for one in some for rest in whole)])


def table(optim: OptimConfig) -> list[GroupConfig]:
    """The configured rows, or those that `optim.name` stands for. Raises UserError for a name or a
    row that means nothing.
    """
    if optim.name not in names():
        raise UserError(
            f"optim.name {one_line(optim.name, 40)!r} is not known; choose one of "
            f"{', '.join(names())}."
        )
    if optim.groups is not None:
        for row in optim.groups:
            betas_of(optim, row)
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


def betas_of(optim: OptimConfig, row: GroupConfig) -> tuple[float, ...]:
    """The betas of a row of the table. Raises UserError for an unknown optimizer, and for another
    number of betas than it has.
    """
    kind = OPTIMIZERS.get(row.optimizer)
    if kind is None:
        raise UserError(
            f"The optimizer {one_line(row.optimizer, 40)!r} in optim.groups is not known; choose "
            f"one of {', '.join(sorted(OPTIMIZERS))}."
        )
    own = kind.betas(optim)
    betas = own if row.betas is None else tuple(row.betas)
    if len(betas) != len(own):
        raise UserError(
            f"A row of optim.groups gives {row.optimizer} {len(betas)} betas; it has {len(own)}."
        )
    return betas
