"""Attention within documents: a sequence holds several, and no token sees another document's.

B batch, H and K heads, T positions, C channels, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.model.attention import causal_attention


def document_numbers(positions_BT: Tensor) -> Tensor:
    """Which document of its sequence each token belongs to, (B, T): 1, 2, … Positions count from 0
    in every document, so a 0 begins one.
    """
    return (positions_BT == 0).cumsum(dim=1)


class Documents:
    """Attention of one forward pass over sequences of documents, in the place of a key-value cache.

    `positions_BT` are the tokens' positions within their documents, `dtype` is that of the queries.
    The mask is made once and used by every layer: SDPA would make and keep numbers of its own from
    a mask of truth values, in each layer. `numbers_BT` tells the documents of a sequence apart.
    """

    def __init__(self, positions_BT: Tensor, dtype: torch.dtype, dropout: float = 0.0) -> None:
        self.positions_BT = positions_BT
        self.numbers_BT = document_numbers(positions_BT)
        self._dropout = dropout
        T = positions_BT.shape[1]
        same_BTT = self.numbers_BT[:, :, None] == self.numbers_BT[:, None, :]
        causal_TT = torch.ones(T, T, dtype=torch.bool, device=positions_BT.device).tril()
        hidden_B1TT = ~(same_BTT & causal_TT)[:, None]
        zeros_B1TT = torch.zeros(hidden_B1TT.shape, dtype=dtype, device=positions_BT.device)
        #: What is added to the scores: 0 where a key is visible, else -inf.
        self._mask_B1TT = zeros_B1TT.masked_fill_(hidden_B1TT, -math.inf)

    def rows(self, table_PD: Tensor, T: int) -> Tensor:
        """The rows of a position table, (B, T, D)."""
        return table_PD[self.positions_BT]

    def attend(self, layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor) -> Tensor:
        """Causal attention within each document, (B, H, T, C)."""
        mask_B1TT = self._mask_B1TT.to(q_BHTC.dtype)
        return causal_attention(q_BHTC, k_BKTC, v_BKTC, dropout=self._dropout, mask_B1TT=mask_B1TT)

    def advance(self, T: int) -> None:
        """Nothing is kept."""
