"""The place of one new token in a key-value cache. L layers, K heads, T positions, C channels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


class Newest:
    """Where one token of one sequence writes its keys and values, and what it attends to.

    Views of all layers, made at once: slicing the cache in every layer takes longer than the
    attention of a short text.
    """

    def __init__(self, both_2LKTC: Tensor, position: int) -> None:
        self._places = both_2LKTC[:, :, :, position].unbind(1)  # (2, K, C) each
        keys, values = both_2LKTC[:, :, None, :, : position + 1]
        self._keys, self._values = keys.unbind(0), values.unbind(0)  # (1, K, T, C) each

    def attend(self, layer: int, q_1KGC: Tensor, both_2KC: Tensor) -> Tensor:
        """Store the token's keys and values; return its attention over all so far, (1, K, G, C).

        The queries of the G heads that share a key-value head are rows of one matrix: each sees
        every key, so nothing has to be masked.
        """
        self._places[layer].copy_(both_2KC)
        return F.scaled_dot_product_attention(q_1KGC, self._keys[layer], self._values[layer])
