"""What an optimizer has to supply: the state of one parameter, and the update of many.

Everything else (groups, checkpoints, skipped steps, memory) is `Optimizer`'s, alike for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from trainer.sharded import alike, here

State = dict[str, Tensor]

#: Changes whole matrices in place, given their names and the matrices.
OfMatrices = Callable[[Sequence[str], Sequence[Tensor]], None]


class Sharing(Protocol):
    """How the processes that train together share what concerns whole parameters."""

    @property
    def spreads_rows(self) -> bool:
        """Whether a process holds only some rows of a parameter (FSDP), not all of them (DDP)."""

    def change(
        self,
        function: OfMatrices,
        names: Sequence[str],
        matrices: Sequence[Tensor],
        shapes: Sequence[torch.Size],
        exact_in: torch.dtype | None = None,
    ) -> None:
        """Let `function` change `matrices` in place, each in one of the processes.

        `matrices` are the rows that this process holds, `shapes` those of the whole. What
        `function` leaves may be sent as `exact_in`, which represents it exactly.
        """

    def sum_of_squares(self, squares: Tensor, sharded: Sequence[bool]) -> Tensor:
        """`squares` (N,) of tensors, added up over all processes where one is `sharded`."""


class Alone:
    """One process, which holds everything."""

    spreads_rows = False

    def change(
        self,
        function: OfMatrices,
        names: Sequence[str],
        matrices: Sequence[Tensor],
        shapes: Sequence[torch.Size],
        exact_in: torch.dtype | None = None,
    ) -> None:
        """All of them here."""
        function(names, matrices)

    def sum_of_squares(self, squares: Tensor, sharded: Sequence[bool]) -> Tensor:
        """What they are."""
        return squares


ALONE = Alone()


class Update(NamedTuple):
    """Parameters of one group with their gradients, states and names, in the same order.

    All tensors are what this process holds of them; `shapes` are those of the whole parameters.
    """

    parameters: Sequence[Tensor]
    gradients: Sequence[Tensor]
    states: Sequence[State]
    names: Sequence[str]
    shapes: Sequence[torch.Size]
    sharing: Sharing = ALONE


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

    def scratch(self, counts: Mapping[torch.Size, int]) -> int:
        """Bytes that an update takes besides, of so many parameters of each shape."""

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
    """State of a parameter's shape, type and device, spread over processes as it is.

    For a parameter on the meta device `zeros_like` would load sympy, which takes a second.
    """
    rows = here(parameter)
    zeros = torch.zeros(rows.shape, dtype=rows.dtype, device=rows.device)
    return alike(parameter, zeros, parameter.shape)


def assign_unless(skip: Tensor | None, tensor: Tensor, value: Tensor) -> None:
    """Copy `value` into `tensor`, unless `skip` is 1; then `tensor` keeps its bits."""
    # Not a product: 0 times NaN is NaN.
    tensor.copy_(value if skip is None else torch.where(skip.bool(), tensor, value))
