"""Averages of the weights over training: exponential (EMA), and the mean of the last steps.

Both are pure functions of the steps made, so nothing but the averages themselves is saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from trainer.config.optim import OptimConfig
from trainer.sharded import Values, here, put


class Average(Protocol):
    """How much of the newest weights an average takes in."""

    def share(self, step: int, max_steps: int) -> float:
        """At `step` (1-based): 0 keeps the average, 1 replaces it."""


@dataclass(frozen=True)
class Exponential:
    """e = d e + (1 - d) w. d grows to `decay`, so that the first weights are soon forgotten."""

    decay: float

    def share(self, step: int, max_steps: int) -> float:
        return 1 - min(self.decay, (1 + step) / (10 + step))


@dataclass(frozen=True)
class Tail:
    """The mean of the weights after each step from a share `start` of all steps on."""

    start: float

    def share(self, step: int, max_steps: int) -> float:
        first = int(self.start * max_steps)
        return 1 / (step - first) if step > first else 1.0


def averages_of(optim: OptimConfig) -> dict[str, Average]:
    """The configured averages by the names of their checkpoints."""
    found: dict[str, Average] = {}
    if optim.ema_decay is not None:
        found["ema"] = Exponential(optim.ema_decay)
    if optim.tail_start is not None:
        found["tail"] = Tail(optim.tail_start)
    return found


class Averages:
    """The averages of a model's parameters. Before `allocate` there are none."""

    def __init__(
        self, averages: Mapping[str, Average], parameters: Mapping[str, nn.Parameter]
    ) -> None:
        self._averages = dict(averages)
        self._parameters = dict(parameters)
        self._values: dict[str, dict[str, Tensor]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the averages."""
        return tuple(self._averages)

    def allocate(self) -> None:
        """Begin with the present weights."""
        self._values = {
            name: {key: parameter.detach().clone() for key, parameter in self._parameters.items()}
            for name in self._averages
        }

    def bytes(self) -> int:
        """What they take."""
        return len(self._averages) * sum(p.nbytes for p in self._parameters.values())

    def update(self, step: int, max_steps: int) -> None:
        """Take in the weights after `step`, also where its update was skipped."""
        if self._averages:
            self._update(step, max_steps)

    @torch.no_grad()
    def _update(self, step: int, max_steps: int) -> None:
        for name, average in self._averages.items():
            share = average.share(step, max_steps)
            values = [here(value) for value in self._values[name].values()]
            torch._foreach_lerp_(values, [here(p) for p in self._parameters.values()], share)

    def values(self) -> Mapping[str, Mapping[str, Tensor]]:
        """The averages by name, then by parameter name."""
        return self._values

    def tensors(self) -> dict[str, Tensor]:
        """The averages as `<name>.<parameter name>`, for a checkpoint."""
        return {
            f"{name}.{key}": tensor
            for name, values in self._values.items()
            for key, tensor in values.items()
        }

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Values]) -> None:
        """Put saved averages back; those that were not saved begin with the present weights."""
        for full_name, tensor in self.tensors().items():
            if full_name in tensors:
                put(tensor, tensors[full_name])
            else:
                here(tensor).copy_(here(self._parameters[full_name.partition(".")[2]]))

    @contextmanager
    def in_place(self, name: str) -> Iterator[None]:
        """The model with an average for its weights; afterwards it has its own again."""
        self._swap(name)
        try:
            yield
        finally:
            self._swap(name)

    @torch.no_grad()
    def _swap(self, name: str) -> None:
        for key, average in self._values[name].items():
            parameter, value = here(self._parameters[key]), here(average)
            own = parameter.clone()
            parameter.copy_(value)
            value.copy_(own)
