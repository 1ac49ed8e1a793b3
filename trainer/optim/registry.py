"""The optimizer that a configuration stands for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from trainer.config.optim import GroupConfig, OptimConfig, default_rate
from trainer.optim.averages import averages_of
from trainer.optim.groups import Row, assign
from trainer.optim.interface import ALONE, Hyperparameters, Sharing
from trainer.optim.kinds import OPTIMIZERS, betas_of, table
from trainer.optim.optimizer import Optimizer


def parameter_rows(optim: OptimConfig) -> list[Row]:
    """The table with its rules. Raises UserError for one that means nothing."""
    return [_row(optim, row) for row in table(optim)]


def _row(optim: OptimConfig, row: GroupConfig) -> Row:
    decay = optim.weight_decay if row.weight_decay is None else row.weight_decay
    rate = _rate(optim, row) / optim.learning_rate
    given = Hyperparameters(betas_of(optim, row), decay)
    rule = OPTIMIZERS[row.optimizer].make(optim, given)
    return Row(rule, row.pattern, row.min_dims, rate)


def _rate(optim: OptimConfig, row: GroupConfig) -> float:
    """The peak learning rate of a row."""
    if row.learning_rate is not None:
        return row.learning_rate
    first, _, _ = optim.name.partition("+")
    if row.optimizer == first:
        return optim.learning_rate
    return optim.rest_learning_rate or default_rate(row.optimizer, optim.muon_scale)


def build_optimizer(
    parameters: Mapping[str, nn.Parameter], optim: OptimConfig, sharing: Sharing = ALONE
) -> Optimizer:
    """The configured optimizer of these parameters, its state allocated."""
    optimizer = Optimizer(parameter_rows(optim), parameters, averages_of(optim), sharing)
    optimizer.allocate()
    return optimizer


def planned_optimizer(shapes: Mapping[str, tuple[int, ...]], optim: OptimConfig) -> Optimizer:
    """The configured optimizer for parameters of these names and shapes, without memory."""
    return Optimizer(parameter_rows(optim), _planned(shapes), averages_of(optim))


def _planned(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, nn.Parameter]:
    """Parameters of these names and shapes, without memory."""
    return {name: nn.Parameter(torch.empty(shape, device="meta")) for name, shape in shapes.items()}


def scratch_bytes(
    shapes_of: Callable[[int], Mapping[str, tuple[int, ...]]], layers: int, optim: OptimConfig
) -> int:
    """Bytes that an update takes besides while it works, of a model of so many layers.

    Layers are alike, so `shapes_of` is asked for the shapes of one and of two. The groups are
    updated in turn.
    """
    rows = parameter_rows(optim)
    one, two = (_counts(shapes_of(number), rows) for number in (1, 2))
    found = 0
    for row, first, second in zip(rows, one, two, strict=True):
        counts = {s: first[s] + (layers - 1) * (n - first[s]) for s, n in second.items()}
        found = max(found, row.rule.scratch({shape: n for shape, n in counts.items() if n > 0}))
    return found


def _counts(
    shapes: Mapping[str, tuple[int, ...]], rows: Sequence[Row]
) -> list[Counter[torch.Size]]:
    """How many parameters of each shape every row of the table has, which may be none."""
    groups = {id(group.rule): group for group in assign(rows, _planned(shapes))}
    members = [groups[id(row.rule)].parameters if id(row.rule) in groups else {} for row in rows]
    return [Counter(parameter.shape for parameter in some.values()) for some in members]


def state_bytes(shapes: Mapping[str, tuple[int, ...]], optim: OptimConfig) -> int:
    """Bytes of the configured optimizer's state for parameters of these names and shapes."""
    return planned_optimizer(shapes, optim).bytes()
