"""What a step measures, on its way from the device to the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Part(NamedTuple):
    """One micro-batch: its mean losses on the device, and its size.

    `loss` is in nats per token over the `tokens` that it is about (the sum of their weights, if
    they have any). `named` holds the further losses of the model, means over the `counted` tokens
    of the data.
    """

    loss: Tensor
    named: dict[str, Tensor]
    tokens: Tensor
    counted: float
    sequences: int


class Figures(NamedTuple):
    """A step's mean losses, the norm of its gradient, and whether its update was skipped."""

    loss: float
    norm: float
    skipped: bool
    named: dict[str, float]


def launched(parts: Sequence[Part], norm: Tensor, skip: Tensor) -> Callable[[], Figures]:
    """Send the figures to the host without waiting for them.

    What is returned waits for them, and for nothing that the device was given later.
    """
    scalars = [norm, skip]
    for part in parts:
        scalars += [part.loss, part.tokens, *part.named.values()]
    arrive = _sent(scalars)

    def read() -> Figures:
        norm, skip, *rest = arrive()
        values = iter(rest)
        here = [
            part._replace(
                loss=next(values),
                tokens=next(values),
                named={name: next(values) for name in part.named},
            )
            for part in parts
        ]
        return Figures(mean_loss(here), norm.item(), bool(skip), mean_named(here))

    return read


def _sent(scalars: Sequence[Tensor]) -> Callable[[], Sequence[Tensor]]:
    """Scalars in main memory, as soon as the device has computed them."""
    if scalars[0].device.type != "cuda":
        return lambda: scalars
    # A plain `item()` later would also wait for whatever was launched in between. In double
    # precision every loss and count keeps its value.
    there = torch.stack([scalar.double() for scalar in scalars])
    here = torch.empty(there.shape, dtype=there.dtype, pin_memory=True)
    here.copy_(there, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> Sequence[Tensor]:
        arrived.synchronize()
        return here.unbind()

    return wait


def total_tokens(parts: Sequence[Part]) -> Tensor:
    """The tokens of all parts; 1 if there are none, so that a mean over them is 0."""
    total = torch.stack([part.tokens for part in parts]).sum()
    return total + (total == 0)


def mean_loss(parts: Sequence[Part]) -> float:
    """The mean over all tokens that the step's loss is about."""
    if len(parts) == 1:
        return parts[0].loss.item()
    return _mean([part.loss for part in parts], [part.tokens.item() for part in parts])


def mean_named(parts: Sequence[Part]) -> dict[str, float]:
    """The means of the model's further losses."""
    if not parts[0].named:
        return {}
    sizes = [part.counted for part in parts]
    return {name: _mean([part.named[name] for part in parts], sizes) for name in parts[0].named}


def _mean(values: Sequence[Tensor], sizes: Sequence[float]) -> float:
    """The mean over all parts of their means."""
    if len(values) == 1:
        return values[0].item()
    pairs = zip(values, sizes, strict=True)
    return sum(value.item() * size for value, size in pairs) / (sum(sizes) or 1)
