"""How a model's gradients become those of all ranks' data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainer.distributed.device import Compute
from trainer.distributed.group import Group
from trainer.distributed.sharing import Copies
from trainer.model.language_model import LanguageModel
from trainer.optim.interface import ALONE, Sharing
from trainer.sharded import is_sharded

T = TypeVar("T")

#: Numbers that are reduced together where it is not done during the backward pass.
BUCKET = 16 << 20


class Parallel(Protocol):
    """What a step must know of how its model is spread over the ranks."""

    #: Whether the gradients of a whole step can wait for `reduce`. If not, an out-of-memory error
    #: in the last backward pass ends the attempt: the others are in the middle of an exchange.
    can_wait: bool
    #: Whether every rank must call the model as often as the others: they exchange rows in a call.
    lockstep: bool
    #: Who does what is done with whole matrices.
    sharing: Sharing

    def call(self, function: Callable[..., T], *values: Any, **named: Any) -> T:
        """What a function returns that uses the model otherwise than a step does."""

    def alike(self, function: Callable[..., T], *values: Any, **named: Any) -> T:
        """The same with the same values on every rank that calls it: rank 0's logits are those of
        all, so that they draw the same tokens."""

    def passing(self, *, reduce: bool) -> AbstractContextManager[Any]:
        """Around a forward and a backward pass: whether the backward pass reduces the gradients."""

    def reduce(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Replace every gradient by the mean of all ranks' now."""

    def abandon(self) -> None:
        """Forget the passes of an attempt that failed; all ranks call it."""


class OneProcess:
    """One process has all the data: its gradients are what they should be."""

    can_wait = True
    lockstep = False
    sharing: Sharing = ALONE

    def call(self, function: Callable[..., T], *values: Any, **named: Any) -> T:
        """Nothing to do beside."""
        return function(*values, **named)

    alike = call

    def passing(self, *, reduce: bool) -> AbstractContextManager[Any]:
        """Nothing to do."""
        return nullcontext()

    def reduce(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Nothing to do."""

    def abandon(self) -> None:
        """Nothing to do."""


class Replicas:
    """Every rank holds the whole model (DDP). `module` is what a step calls."""

    can_wait = True
    lockstep = False

    def __init__(
        self, module: nn.Module, group: Group, device: torch.device, *, find_unused: bool
    ) -> None:
        """`find_unused`: not every parameter takes part in every step."""
        self._group = group
        self.sharing: Sharing = Copies(group.world.rank, group.world.size)
        self.module = DistributedDataParallel(
            module,
            device_ids=[device.index] if device.type == "cuda" else None,
            forward_sync_buffers=False,  # tables, computed alike on every rank
            init_sync=False,  # so are first weights; `differing` finds those that are not
            gradient_as_bucket_view=True,
            find_unused_parameters=find_unused,
        )

    def call(self, function: Callable[..., T], *values: Any, **named: Any) -> T:
        """Nothing to do beside: every rank has the whole model."""
        return function(*values, **named)

    alike = call

    @contextmanager
    def passing(self, *, reduce: bool) -> Iterator[None]:
        """Gradients are reduced while the backward pass computes the next ones, or not at all."""
        with nullcontext() if reduce else self.module.no_sync():
            yield
        if reduce:
            # DDP orders its buckets anew after its first reduction, and the ranks exchange that in
            # their next forward pass. They do not always make it at the same time.
            self.module.reducer._rebuild_buckets()

    def abandon(self) -> None:
        """A forward pass may have been made whose backward pass DDP would wait for."""
        self.module.reducer._reset_state()

    @torch.no_grad()
    def reduce(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Reduce in pieces, so that little memory is needed beside the gradients."""
        for parameter in parameters.values():  # every rank has the same ones
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters.values() if p.grad is not None]
        for piece in _pieces(gradients):
            flat = torch.cat([gradient.flatten() for gradient in piece])
            self._group.total(flat).div_(self._group.world.size)
            parts = flat.split([gradient.numel() for gradient in piece])
            torch._foreach_copy_(
                piece, [part.view_as(g) for part, g in zip(parts, piece, strict=True)]
            )


def _pieces(tensors: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    """The tensors in order, about `BUCKET` numbers together."""
    pieces: list[list[torch.Tensor]] = []
    left = 0
    for tensor in tensors:
        if tensor.numel() > left or not pieces:
            pieces.append([])
            left = BUCKET
        pieces[-1].append(tensor)
        left -= tensor.numel()
    return pieces


class _Called(nn.Module):
    """What a step calls, as a module: DDP wants one whose parameters it can see."""

    def __init__(self, model: nn.Module, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self._forward = forward

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Call it."""
        return self._forward(*arguments, **named)


def spread(
    model: LanguageModel,
    eager: Callable[..., Any],
    group: Group,
    compute: Compute,
    *,
    how: Literal["ddp", "fsdp"] = "ddp",
    whole_gradients: bool = False,
    find_unused: bool = False,
) -> tuple[Callable[..., Any], Parallel]:
    """What a step calls on this rank, and how its gradients are reduced.

    `eager` calls `model`, or is it. With `fsdp` the weights need no values yet, and no device;
    `whole_gradients` says that there is room for the gradients of the whole model on each rank.
    """
    device, compiled = compute.device, compute.compile
    if how == "fsdp" and not group.alone:
        from trainer.distributed.fsdp import Sharded  # loads a second's worth of torch

        sharded = Sharded(
            model,
            device,
            bf16=compute.bf16,
            compiled=compiled,
            whole_gradients=whole_gradients,
        )
        return partial(sharded.call, eager), sharded
    if group.alone:
        return (torch.compile(eager) if compiled else eager), OneProcess()
    module = eager if isinstance(eager, nn.Module) else _Called(model, eager)
    replicas = Replicas(module, group, device, find_unused=find_unused)
    # Compiled around DDP, so that the compiler cuts the graph where gradients are exchanged.
    return (torch.compile(replicas.module) if compiled else replicas.module), replicas


def differing(group: Group, parameters: Mapping[str, torch.Tensor]) -> str:
    """The first parameter that is not the same on all ranks; empty if all are.

    Those whose rows are spread over the ranks are the same by construction.
    """
    if group.alone:
        return ""
    parameters = {name: p for name, p in parameters.items() if not is_sharded(p)}
    sums = [_sum_of_bits(tensor) for tensor in parameters.values()]
    most = group.agree(*sums)
    least = group.agree(*(-value for value in sums))
    pairs = zip(parameters, most, least, strict=True)
    return next((name for name, high, low in pairs if high != -low), "")


def _sum_of_bits(tensor: torch.Tensor) -> float:
    """A number that tells tensors apart, the same on every machine: no order of sums matters."""
    kind = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    total = tensor.detach().contiguous().view(kind).sum(dtype=torch.int64)
    return float(int(total) % (1 << 52))
