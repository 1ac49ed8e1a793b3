"""Causal attention over heads. B batch, H and K heads, T and S positions, C channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_attention(
    q_BHTC: Tensor, k_BKSC: Tensor, v_BKSC: Tensor, *, dropout: float = 0.0
) -> Tensor:
    """softmax(q k^T / sqrt(C)) v, each query seeing the keys up to its own position.

    With a cache there are more keys (S) than queries (T): the queries are the last T positions.
    Query head h uses key-value head h // (H / K). Returns (B, H, T, C).
    """
    T, S = q_BHTC.shape[2], k_BKSC.shape[2]
    grouped = q_BHTC.shape[1] != k_BKSC.shape[1]
    assert q_BHTC.shape[1] % k_BKSC.shape[1] == 0
    mask = None
    if 1 < T < S:
        # is_causal would align the triangle to the first key; ours ends at the last one.
        mask = torch.ones(T, S, dtype=torch.bool, device=q_BHTC.device).tril(S - T)
    return F.scaled_dot_product_attention(
        q_BHTC,
        k_BKSC,
        v_BKSC,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=T > 1 and T == S,
        enable_gqa=grouped,
    )
