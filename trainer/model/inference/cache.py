"""The key-value cache of generation. B batch, H and K heads, T and P positions, C channels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from trainer.model.attention import causal_attention
from trainer.model.dimensions import Dimensions
from trainer.model.inference.newest import Newest


class Cache(Protocol):
    """What the model needs from a cache during one forward pass over T new positions."""

    def rows(self, table_PD: Tensor, T: int) -> Tensor:
        """The rows of a position table for the new tokens, (T, D)."""

    def attend(self, layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor) -> Tensor:
        """Store the new keys and values; return attention over all so far, (B, H, T, C)."""

    def advance(self, T: int) -> None:
        """Count the new positions, once every layer has stored them."""


class KeyValueCache:
    """Keys and values of all layers, allocated once: (L, B, K, T, C) each.

    `length` positions are filled. `advance` is called once per forward pass, after the last layer.
    """

    def __init__(
        self, n: Dimensions, batch: int, length: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (2, n.L, batch, n.K, length, n.C)
        self._both = torch.empty(shape, device=device, dtype=dtype)
        self.keys, self.values = self._both
        self.length = 0
        self._newest: tuple[int, Newest] | None = None

    @property
    def capacity(self) -> int:
        """The number of positions the cache can hold."""
        return self.keys.shape[3]

    def rows(self, table_PD: Tensor, T: int) -> Tensor:
        """The T rows after those of the filled positions."""
        return table_PD[self.length : self.length + T]

    def attend(self, layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor) -> Tensor:
        """Store a layer's new positions; return attention over all of its positions so far."""
        end = self.length + k_BKTC.shape[2]
        assert end <= self.capacity, "the key-value cache is full"
        self.keys[layer, :, :, self.length : end] = k_BKTC
        self.values[layer, :, :, self.length : end] = v_BKTC
        k, v = self.keys[layer, :, :, :end], self.values[layer, :, :, :end]
        return causal_attention(q_BHTC, k.to(q_BHTC.dtype), v.to(q_BHTC.dtype))

    def newest(self) -> Newest:
        """The place of one new token of the only sequence, in place of `attend`."""
        assert self.length < self.capacity, "the key-value cache is full"
        if self._newest is None or self._newest[0] != self.length:
            self._newest = self.length, Newest(self._both[:, :, 0], self.length)
        return self._newest[1]

    def copy(self, source: KeyValueCache, count: int) -> None:
        """Begin with the first `count` positions of another cache of the same model."""
        assert count <= source.length
        self._both[..., :count, :] = source._both[..., :count, :]
        self.length = count

    def advance(self, T: int) -> None:
        """Count the new positions, once every layer has stored them."""
        self.length += T
