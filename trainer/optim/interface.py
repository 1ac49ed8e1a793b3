"""What an optimizer has to supply: the state of one parameter, and the update of many.

Everything else (groups, checkpoints, skipped steps, memory) is `Optimizer`'s, alike for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


class Update(NamedTuple):
    """Parameters of one group with their gradients, states and names, in the same order."""

    parameters: Sequence[nn.Parameter]
    gradients: Sequence[Tensor]
    states: Sequence[State]
    names: Sequence[str]


class Rule(Protocol):
    """The mathematics of an optimizer, with its constants.

    All it remembers of a parameter is in the tensors of that parameter's state.
    """

    #: Whether `update` itself honours `skip`. If not, `Optimizer` restores what was updated.
    honours_skip: ClassVar[bool]
    #: Whether it updates matrices only.
    matrices_only: ClassVar[bool]

    def __str__(self) -> str:
        """Its constants, for people: `betas 0.9 and 0.95, weight decay 0.1`."""

    def new_state(self, parameter: Tensor) -> State:
        """The state of a parameter that has not been updated yet, on the parameter's device."""

    def update(self, update: Update, rate: float, skip: Tensor | None) -> None:
        """Change parameters and states in place, with the learning rate `rate`.

        Where `skip` (scalar, fp32, on the device) is 1, nothing may change; it is None if the
        update is wanted, or if the rule does not honour it.
        """


class Hyperparameters(NamedTuple):
    """What the table of parameter groups says of one row, for its rule."""

    betas: tuple[float, ...]
    weight_decay: float


def zeros_for(parameter: Tensor) -> Tensor:
    """State of a parameter's shape, type and device.

    For a parameter on the meta device `zeros_like` would load sympy, which takes a second.
    """
    return torch.zeros(parameter.shape, dtype=parameter.dtype, device=parameter.device)


def assign_unless(skip: Tensor | None, tensor: Tensor, value: Tensor) -> None:
    """Copy `value` into `tensor`, unless `skip` is 1; then `tensor` keeps its bits."""
    # Not a product: 0 times NaN is NaN.
    tensor.copy_(value if skip is None else torch.where(skip.bool(), tensor, value))
