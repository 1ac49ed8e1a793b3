"""Attention within documents: a sequence holds several, and no token sees another document's.

B batch, H and K heads, T positions, C channels, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.model.attention import causal_attention

#: Tokens per document from which attention within each by itself is faster (measured on a CPU).
LONG = 64


def document_numbers(positions_BT: Tensor) -> Tensor:
    """Which document of its sequence each token belongs to, (B, T): 1, 2, … Positions count from 0
    in every document, so a 0 begins one.
    """
    return (positions_BT == 0).cumsum(dim=1)


class Documents:
    """Attention of one forward pass over sequences of documents, in the place of a key-value cache.

    `positions_BT` are the tokens' positions within their documents, `dtype` is that of the queries.
    `numbers_BT` tells the documents of a sequence apart.

    Where documents are long, a CPU attends within each by itself, which is less work than attention
    over whole sequences. Otherwise a mask says who sees whom. It is made once and used by every
    layer: SDPA would make and keep numbers of its own from a mask of truth values, in each layer.
    """

    def __init__(
        self, positions_BT: Tensor, dtype: torch.dtype, dropout: float = 0.0, *, long: int = LONG
    ) -> None:
        self.positions_BT = positions_BT
        self.numbers_BT = document_numbers(positions_BT)
        self._dropout = dropout
        self._dtype = dtype
        #: The lengths of every sequence's documents, where they are computed by themselves.
        self.lengths = None if dropout else _long_documents(positions_BT, long)
        self._mask_B1TT = None if self.lengths else self._mask()

    def rows(self, table_PD: Tensor, T: int) -> Tensor:
        """The rows of a position table, (B, T, D)."""
        return table_PD[self.positions_BT]

    def attend(self, layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor) -> Tensor:
        """Causal attention within each document, (B, H, T, C)."""
        if self.lengths:
            return _apart(self.lengths, q_BHTC, k_BKTC, v_BKTC)
        assert self._mask_B1TT is not None
        mask_B1TT = self._mask_B1TT.to(q_BHTC.dtype)
        return causal_attention(q_BHTC, k_BKTC, v_BKTC, dropout=self._dropout, mask_B1TT=mask_B1TT)

    def _mask(self) -> Tensor:
        """What is added to the scores: 0 where a key is visible, else -inf; (B, 1, T, T)."""
        T, device = self.positions_BT.shape[1], self.positions_BT.device
        same_BTT = self.numbers_BT[:, :, None] == self.numbers_BT[:, None, :]
        causal_TT = torch.ones(T, T, dtype=torch.bool, device=device).tril()
        hidden_B1TT = ~(same_BTT & causal_TT)[:, None]
        zeros_B1TT = torch.zeros(hidden_B1TT.shape, dtype=self._dtype, device=device)
        return zeros_B1TT.masked_fill_(hidden_B1TT, -math.inf)

    def advance(self, T: int) -> None:
        """Nothing is kept."""


def _long_documents(positions_BT: Tensor, long: int) -> list[list[int]] | None:
    """The lengths of each sequence's documents, if they are long and the host knows them."""
    if positions_BT.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    B, T = positions_BT.shape
    begins_BT = positions_BT == 0
    begins_BT[:, 0] = True
    if long * int(begins_BT.sum()) > B * T:
        return None
    return [
        torch.diff(begins_T.nonzero()[:, 0], append=torch.tensor([T])).tolist()
        for begins_T in begins_BT
    ]


def _apart(lengths: list[list[int]], q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor) -> Tensor:
    """Attention in each document by itself."""
    if all(len(row) == 1 for row in lengths):
        return causal_attention(q_BHTC, k_BKTC, v_BKTC)
    rows = []
    for row, *qkv in zip(lengths, q_BHTC, k_BKTC, v_BKTC, strict=True):
        documents = zip(*(x[None].split(row, dim=2) for x in qkv), strict=True)
        rows.append(torch.cat([causal_attention(q, k, v) for q, k, v in documents], dim=2))
    return torch.cat(rows)
