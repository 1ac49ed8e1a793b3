"""Any optimizer as the loop sees it: rules over groups of parameters, state by parameter name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from shared.checkpoints.catalogue import AVERAGES
from shared.errors import UserError
from trainer.optim.averages import Average, Averages
from trainer.optim.groups import Group, Row, assign
from trainer.optim.interface import ALONE, Sharing, State, Update
from trainer.optim.kept import PREFIX, Kept
from trainer.sharded import Values, here, put


class Optimizer:
    """Updates parameters by the rules of their groups, and averages them. Has no state before
    `allocate`.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        parameters: Mapping[str, nn.Parameter],
        averages: Mapping[str, Average] | None = None,
        sharing: Sharing = ALONE,
    ) -> None:
        """Raises UserError for a parameter that no row matches."""
        self.groups = assign(rows, parameters)
        self._parameters = dict(parameters)
        self.sharing = sharing
        self.averages = Averages(averages or {}, parameters)
        self.kept = Kept(parameters)
        self._states: dict[str, State] = {}

    @torch.no_grad()
    def allocate(self) -> None:
        """Make the state of every parameter, as before the first step.

        At once, so that memory that is missing shows at the start, not in the middle of a step.
        """
        for group in self.groups:
            for name, parameter in group.parameters.items():
                self._states[name] = group.rule.new_state(parameter)
        self.averages.allocate()
        self.kept.clear()

    def describe(self, peak: float) -> list[str]:
        """A line per group, where the schedule's peak learning rate is `peak`."""
        return [group.describe(peak) for group in self.groups]

    def bytes(self) -> int:
        """The size of the state. Allocates nothing, and works for parameters on the meta device."""
        return self.averages.bytes() + sum(
            tensor.nbytes
            for group in self.groups
            for parameter in group.parameters.values()
            for tensor in group.rule.new_state(_planned(parameter)).values()
        )

    @torch.no_grad()
    def step(self, rate: float, skip: Tensor | bool = False) -> None:
        """Update every parameter that has a gradient, with the learning rate `rate`.

        Where `skip` is true, or a scalar tensor on the device that is 1, all parameters and
        states keep their bits; the host does not wait to learn it from a tensor.
        """
        if skip is True:
            return
        unless = skip if isinstance(skip, Tensor) else None
        for group in self.groups:
            update = self._update(group)
            if not update.parameters:
                continue
            if unless is None or group.rule.honours_skip:
                group.rule.update(update, rate * group.rate, unless)
            else:
                before = [tensor.clone() for tensor in _changed(update)]
                group.rule.update(update, rate * group.rate, None)
                for tensor, old in zip(_changed(update), before, strict=True):
                    tensor.copy_(torch.where(unless.bool(), old, tensor))

    def _update(self, group: Group) -> Update:
        ready = [(n, p, p.grad) for n, p in group.parameters.items() if p.grad is not None]
        names, parameters, gradients = zip(*ready, strict=True) if ready else ((), (), ())
        states: Sequence[State] = [self._states[name] for name in names]
        shapes = [parameter.shape for parameter in parameters]
        if self.sharing.spreads_rows:
            parameters = tuple(map(here, parameters))
            gradients = tuple(map(here, gradients))
            states = [{key: here(x) for key, x in state.items()} for state in states]
        return Update(parameters, gradients, states, names, shapes, self.sharing)

    def zero_grad(self) -> None:
        """Let the gradients go, and their memory."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def tensors(self) -> State:
        """The state as `<key>.<parameter name>`, for a checkpoint.

        Keyed by name, so the order in which parameters were built does not matter.
        """
        states = {
            f"{key}.{name}": tensor
            for name in self._parameters
            for key, tensor in self._states.get(name, {}).items()
        }
        return {**states, **self.averages.tensors(), **self.kept.tensors()}

    def states(self) -> dict[str, dict[str, Tensor]]:
        """The rules' state by its key and the averages by name, then by parameter name."""
        found = {key: dict(values) for key, values in self.averages.values().items()}
        for name, state in self._states.items():
            for key, tensor in state.items():
                found.setdefault(key, {})[name] = tensor
        return found

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise UserError unless a saved state of these names and shapes can be loaded.

        Allocates nothing, and works for parameters on the meta device.
        """
        saved: dict[str, dict[str, tuple[int, ...]]] = {name: {} for name in self._parameters}
        for full_name, shape in shapes.items():
            key, _, name = full_name.partition(".")
            if name in saved and key not in AVERAGES and not key.startswith(PREFIX):
                saved[name][key] = tuple(shape)
        rules = {name: group.rule for group in self.groups for name in group.parameters}
        for name, state in saved.items():
            own = rules[name].new_state(_planned(self._parameters[name]))
            if state and state != {key: tuple(t.shape) for key, t in own.items()}:
                raise UserError(
                    f"The saved optimizer state of {name} does not fit this model and optimizer; "
                    "resume with the configuration it was saved with."
                )

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Values]) -> None:
        """Put saved state back. Raises UserError when it belongs to other parameters or to another
        optimizer; nothing is changed then.

        Of sharded state each process reads its own rows.
        """
        self.check({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        for full_name, tensor in tensors.items():
            key, _, name = full_name.partition(".")
            if name in self._states and key in self._states[name]:
                put(self._states[name][key], tensor)
        self.averages.load(tensors)
        self.kept.load(tensors)


def _planned(parameter: Tensor) -> Tensor:
    """The whole parameter without memory."""
    return torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")


def _changed(update: Update) -> Iterator[Tensor]:
    """Every tensor that an update changes."""
    yield from update.parameters
    for state in update.states:
        yield from state.values()
