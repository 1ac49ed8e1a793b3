"""Which rule updates which parameter: a table of rows, of which the first match wins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from shared.errors import UserError
from shared.text import format_count, plural
from trainer.optim.interface import Rule


@dataclass(frozen=True)
class Row:
    """Parameters whose name matches `pattern` and that have `min_ndim` dimensions or more.

    `rate` multiplies the learning rate of the schedule.
    """

    rule: Rule
    pattern: str = ""
    min_ndim: int = 0
    rate: float = 1.0

    def matches(self, name: str, parameter: Tensor) -> bool:
        """Whether the row is meant for this parameter."""
        return parameter.ndim >= self.min_ndim and re.search(self.pattern, name) is not None


@dataclass(frozen=True)
class Group:
    """The parameters of one row, by name."""

    rule: Rule
    rate: float
    parameters: Mapping[str, nn.Parameter]

    def describe(self, peak: float) -> str:
        """One line about the group, where the schedule's peak learning rate is `peak`."""
        tensors, first = len(self.parameters), next(iter(self.parameters))
        numbers = sum(parameter.numel() for parameter in self.parameters.values())
        return (
            f"{type(self.rule).__name__}: learning rate {peak * self.rate:g}, {self.rule}, for "
            f"{plural(tensors, 'tensor')} with {format_count(numbers)} parameters "
            f"({first}{', …' if tensors > 1 else ''})"
        )


def assign(rows: Sequence[Row], parameters: Mapping[str, nn.Parameter]) -> list[Group]:
    """Every parameter in the group of the first row that matches it; groups without any are left
    out. Raises UserError naming a parameter that no row matches, or that its rule cannot update.
    """
    members: list[dict[str, nn.Parameter]] = [{} for _ in rows]
    for name, parameter in parameters.items():
        place = next((i for i, row in enumerate(rows) if row.matches(name, parameter)), None)
        if place is None:
            raise UserError(
                f"No row of optim.groups matches the parameter {name}; add a last row without a "
                "pattern for the rest."
            )
        rule = rows[place].rule
        if rule.matrices_only and parameter.ndim != 2:
            raise UserError(
                f"optim.groups gives {name} to {type(rule).__name__}, which trains matrices, and "
                f"it has {plural(parameter.ndim, 'dimension')}; add a row for it before, or set "
                "min_dims: 2."
            )
        members[place][name] = parameter
    found = zip(rows, members, strict=True)
    return [Group(row.rule, row.rate, here) for row, here in found if here]
