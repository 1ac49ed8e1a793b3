"""Tensors that something beside the optimizer's rules keeps of every parameter, by a name.

They are saved with the optimizer's state, as `kept_<name>.<parameter name>`, and come and go while
a run trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trainer.optim.interface import State
from trainer.sharded import Values, here, put

PREFIX = "kept_"


class Kept:
    """What is kept of the parameters; nothing at first."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = dict(parameters)
        self._sets: dict[str, dict[str, Tensor]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._sets

    @property
    def names(self) -> frozenset[str]:
        """What is kept."""
        return frozenset(self._sets)

    @torch.no_grad()
    def copy(self, name: str, of: Mapping[str, Tensor] | None = None) -> None:
        """Keep copies of the parameters, or of other tensors by parameter name."""
        source = self._parameters if of is None else of
        self._sets[name] = {key: tensor.detach().clone() for key, tensor in source.items()}

    @torch.no_grad()
    def zeros(self, name: str) -> None:
        """Keep zeros of the parameters' shapes."""
        self._sets[name] = {
            key: torch.zeros_like(tensor.detach()) for key, tensor in self._parameters.items()
        }

    def drop(self, *names: str) -> None:
        """Keep them no longer."""
        for name in names:
            self._sets.pop(name, None)

    def clear(self) -> None:
        """Keep nothing."""
        self._sets = {}

    def whole(self, name: str) -> Mapping[str, Tensor]:
        """The tensors of that name by parameter name."""
        return self._sets[name]

    def here(self, name: str) -> Sequence[Tensor]:
        """Their rows in this process, in the order of the parameters."""
        return [here(tensor) for tensor in self._sets[name].values()]

    def tensors(self) -> State:
        """All of it, for a checkpoint."""
        return {
            f"{PREFIX}{name}.{key}": tensor
            for name, tensors in self._sets.items()
            for key, tensor in tensors.items()
        }

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Values]) -> None:
        """Keep what was saved, and nothing else."""
        self._sets = {}
        for full_name, values in tensors.items():
            key, _, parameter = full_name.partition(".")
            like = self._parameters.get(parameter)
            if not key.startswith(PREFIX) or like is None:
                continue
            same = tuple(values.shape) == tuple(like.shape)
            tensor = torch.zeros_like(like.detach()) if same else torch.zeros(tuple(values.shape))
            put(tensor, values)
            found = self._sets.setdefault(key.removeprefix(PREFIX), {})
            found[parameter] = tensor if same else tensor.to(here(like).device)
        for name, found in self._sets.items():  # in the order of the parameters
            self._sets[name] = {key: found[key] for key in self._parameters if key in found}
