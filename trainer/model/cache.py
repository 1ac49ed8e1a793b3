"""The key-value cache of generation. B batch, K key-value heads, T positions, C channels."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.model.parameters import Dimensions


class KeyValueCache:
    """Keys and values of all layers, allocated once: (L, B, K, T, C) each.

    `length` positions are filled. `advance` is called once per forward pass, after the last layer.
    """

    def __init__(
        self, n: Dimensions, batch: int, length: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (n.L, batch, n.K, length, n.C)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Positions there is room for."""
        return self.keys.shape[3]

    def update(self, layer: int, k_BKTC: Tensor, v_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        """Put in the new positions of a layer; returns all of its keys and values so far."""
        end = self.length + k_BKTC.shape[2]
        assert end <= self.capacity, "the key-value cache is full"
        self.keys[layer, :, :, self.length : end] = k_BKTC
        self.values[layer, :, :, self.length : end] = v_BKTC
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, positions: int) -> None:
        """Count the positions that every layer has now put in."""
        self.length += positions
