"""What hyper-connections do in one forward pass: how far streams separate, how much they mix."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from trainer.model.parts.hyper_connections.streams import HyperConnection, Streams, collapse


class Watch:
    """Watches the connections of a model, in the order of its sub-layers, while it is entered."""

    def __init__(self, connections: Sequence[HyperConnection]) -> None:
        self._connections = connections
        self._handles: list[RemovableHandle] = []
        self._mixing: list[Tensor] = []
        self._last: Streams = ()

    def __enter__(self) -> None:
        self._handles = [c.register_forward_hook(self._passed) for c in self._connections]

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _passed(
        self, connection: HyperConnection, inputs: tuple[Any, ...], output: Streams
    ) -> None:
        if connection.mixes:
            self._mixing.append(connection.maps_of(inputs[0]).res.detach().double())
        self._last = tuple(stream.detach() for stream in output)

    def metrics(self) -> dict[str, float]:
        """Separation; and the mean share a stream keeps of itself, and the composite gain."""
        mean = collapse(self._last)
        apart = torch.stack([(stream - mean).square().mean() for stream in self._last]).mean()
        found = {"hyper_separation": float((apart / mean.square().mean()).sqrt())}
        if self._mixing:
            kept = [matrix.diagonal(dim1=-2, dim2=-1).mean() for matrix in self._mixing]
            found["hyper_kept"] = float(torch.stack(kept).mean())
            found["hyper_gain"] = composite(self._mixing)
        return found


def composite(matrices: Sequence[Tensor]) -> float:
    """The largest absolute row or column sum of the product of (..., n, n) matrices, any token's.

    It is 1 if all are doubly stochastic: the streams are never amplified.
    """
    product = matrices[0]
    for matrix in matrices[1:]:
        product = matrix @ product
    sums = product.abs()
    return float(torch.maximum(sums.sum(-1).amax(), sums.sum(-2).amax()))
