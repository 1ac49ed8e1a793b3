"""Causal attention over heads. B batch, H and K heads, T and S positions, C channels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: Up to this many positions, and this many attention weights in a layer, a CPU trains faster with
#: the whole matrix in bf16 than with SDPA, whose bf16 backward is slow there (measured).
EXPLICIT_POSITIONS = 512
EXPLICIT_WEIGHTS = 1 << 26


def written_out(q: Tensor, matrices: int, T: int) -> bool:
    """Whether training computes attention in so many heads of all sequences, over T positions, with
    matrix products instead of torch's kernel. Of the queries `q`, type and device count.
    """
    return (
        q.dtype == torch.bfloat16
        and q.device.type == "cpu"
        and 1 < T <= EXPLICIT_POSITIONS
        and matrices * T * T <= EXPLICIT_WEIGHTS
    )


def causal_attention(
    q_BHTC: Tensor,
    k_BKSC: Tensor,
    v_BKSC: Tensor,
    *,
    dropout: float = 0.0,
    mask_B1TT: Tensor | None = None,
) -> Tensor:
    """softmax(q k^T / sqrt(C)) v, each query seeing the keys up to its own position.

    With a cache there are more keys (S) than queries (T): the queries are the last T positions.
    Query head h uses key-value head h // (H / K). A `mask_B1TT` says instead who sees whom: it is
    added to the scores, -inf for every key that is not seen. Returns (B, H, T, C).
    """
    B, H, T, _ = q_BHTC.shape
    S = k_BKSC.shape[2]
    assert H % k_BKSC.shape[1] == 0
    if T == S and torch.is_grad_enabled() and written_out(q_BHTC, B * H, T):
        return _explicit_attention(q_BHTC, k_BKSC, v_BKSC, dropout, mask_B1TT)
    mask = mask_B1TT
    if mask is None and 1 < T < S:
        # is_causal would align the triangle to the first key; ours ends at the last one.
        mask = torch.ones(T, S, dtype=torch.bool, device=q_BHTC.device).tril(S - T)
    # The result of a comparison of sizes would not be a bool under torch.compile.
    causal = True if mask is None and T > 1 else False  # noqa: SIM210
    return F.scaled_dot_product_attention(
        q_BHTC,
        k_BKSC,
        v_BKSC,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal,
        enable_gqa=k_BKSC.shape[1] != H,
    )


def _explicit_attention(
    q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, dropout: float, mask_B1TT: Tensor | None
) -> Tensor:
    """The same with batched matrix products; the weights of all heads are in memory at once."""
    B, H, T, C = q_BHTC.shape
    K = k_BKTC.shape[1]
    # A group's queries are rows of one matrix: (B K, G T, C).
    q, k, v = (x.reshape(B * K, -1, C) for x in (q_BHTC, k_BKTC, v_BKTC))
    if mask_B1TT is None:
        hidden = torch.full((T, T), -math.inf, dtype=q.dtype).triu(1).repeat(H // K, 1)
    else:
        hidden = mask_B1TT.repeat(1, K, H // K, 1).view(B * K, -1, T)
    # Autocast would widen the softmax's input and output; inside, it computes in fp32 anyway.
    with torch.autocast("cpu", enabled=False):
        scores = torch.baddbmm(hidden, q, k.transpose(1, 2), alpha=1 / math.sqrt(C))
        weights = F.dropout(scores.softmax(dim=-1), dropout)
        return torch.bmm(weights, v).view(B, H, T, C)
