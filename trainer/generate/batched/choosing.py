"""Choosing the next token of many rows at once, each with its own settings.

R rows, V vocabulary, W candidates. Randomness comes in as one uniform number per row, so what a
row draws does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import torch
from torch import Tensor

from trainer.generate.batched.job import Job, TokenScore
from trainer.generate.sampling import MIN_TEMPERATURE, Sampling

#: For top-p, so many of the likeliest tokens are tried before the whole vocabulary is sorted.
CANDIDATES = 1024


def adjustments(job: Job, counts: Mapping[int, int]) -> dict[int, float]:
    """What is added to the logits of some tokens before sampling.

    mu[j] + bias[j] - c[j] * frequency - (c[j] > 0) * presence, where c[j] is how often token j has
    been drawn so far (the definition in OpenAI's API reference).
    """
    added = dict(job.logit_bias)
    if job.presence_penalty or job.frequency_penalty:
        for token, count in counts.items():
            penalty = count * job.frequency_penalty + job.presence_penalty
            added[token] = added.get(token, 0.0) - penalty
    return added


def adjust(logits_RV: Tensor, added: Sequence[Mapping[int, float]]) -> Tensor:
    """The logits plus each row's `added`."""
    rows = [row for row, more in enumerate(added) for _ in more]
    if not rows:
        return logits_RV
    tokens = [token for more in added for token in more]
    values = [value for more in added for value in more.values()]
    device = logits_RV.device
    where = (torch.tensor(rows, device=device), torch.tensor(tokens, device=device))
    more_N = torch.tensor(values, device=device, dtype=logits_RV.dtype)
    return logits_RV.index_put(where, more_N, accumulate=True)


def discourage_repeats(
    logits_RV: Tensor, seen: Sequence[Set[int]], penalties: Sequence[float]
) -> Tensor:
    """The logits with each row's `seen` tokens made less likely.

    A positive logit is divided by the row's penalty, a negative one multiplied (Keskar et al. 2019,
    as in transformers). A penalty of 1 changes nothing.
    """
    V = logits_RV.shape[-1]
    pairs = [
        (row, token)
        for row, penalty in enumerate(penalties)
        if penalty != 1.0
        for token in seen[row]
        if token < V
    ]
    if not pairs:
        return logits_RV
    device = logits_RV.device
    rows, tokens = torch.tensor(pairs, device=device).unbind(1)
    factors = torch.tensor(penalties, device=device, dtype=logits_RV.dtype)[rows]
    old = logits_RV[rows, tokens]
    return logits_RV.index_put((rows, tokens), torch.where(old > 0, old / factors, old * factors))


def draw(logits_RV: Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]) -> list[int]:
    """The token of every row. `uniforms` are in [0, 1); greedy rows ignore theirs.

    The same distribution as `trainer.generate.sampling`, except that exactly k tokens remain when
    several tie for the last place of top-k.
    """
    tokens = logits_RV.argmax(dim=-1).tolist()
    V = logits_RV.shape[-1]
    plain, top_k, top_p = [], [], []
    for row, sampling in enumerate(samplings):
        if sampling.temperature == 0:
            continue
        if 0 < sampling.top_k < V:
            top_k.append(row)
        elif sampling.top_p < 1:
            top_p.append(row)
        else:
            plain.append(row)
    for rows, draw_rows in ((plain, _draw_plain), (top_k, _draw_top_k), (top_p, _draw_top_p)):
        if rows:
            device = logits_RV.device
            chosen = [samplings[row] for row in rows]
            heat = [max(sampling.temperature, MIN_TEMPERATURE) for sampling in chosen]
            scaled = logits_RV[rows] / torch.tensor(heat, device=device)[:, None]
            if any(sampling.min_p for sampling in chosen):
                floors = torch.tensor([[sampling.floor] for sampling in chosen], device=device)
                least = scaled.amax(dim=-1, keepdim=True) + floors
                scaled = scaled.masked_fill(scaled < least, -torch.inf)
            uniforms_R1 = torch.tensor([[uniforms[row]] for row in rows], device=device)
            for row, token in zip(rows, draw_rows(scaled, chosen, uniforms_R1), strict=True):
                tokens[row] = token
    return tokens


def _draw_plain(scaled_RV: Tensor, samplings: Sequence[Sampling], u_R1: Tensor) -> list[int]:
    return _invert(scaled_RV.softmax(dim=-1), u_R1).tolist()


def _draw_top_k(scaled_RV: Tensor, samplings: Sequence[Sampling], u_R1: Tensor) -> list[int]:
    sizes = torch.tensor([[sampling.top_k] for sampling in samplings], device=u_R1.device)
    values, order = scaled_RV.topk(int(sizes.max()), dim=-1)
    rank = torch.arange(values.shape[-1], device=u_R1.device)
    probabilities = values.masked_fill(rank >= sizes, -torch.inf).softmax(dim=-1)
    return _draw_nucleus(probabilities, order, samplings, u_R1)


def _draw_top_p(scaled_RV: Tensor, samplings: Sequence[Sampling], u_R1: Tensor) -> list[int]:
    """Sorts only the likeliest tokens, or all of them if top-p reaches further."""
    total = scaled_RV.logsumexp(dim=-1, keepdim=True)
    for width in (min(CANDIDATES, scaled_RV.shape[-1]), scaled_RV.shape[-1]):
        values, order = scaled_RV.topk(width, dim=-1)
        probabilities = (values - total).exp()
        mass = probabilities.sum(dim=-1).tolist()
        if all(m >= sampling.top_p for m, sampling in zip(mass, samplings, strict=True)):
            break
    return _draw_nucleus(probabilities, order, samplings, u_R1)


def _draw_nucleus(
    probabilities_RW: Tensor, order_RW: Tensor, samplings: Sequence[Sampling], u_R1: Tensor
) -> list[int]:
    """Draw from the likeliest tokens that reach top_p; `order_RW` has their ids, best first."""
    p = torch.tensor([[sampling.top_p] for sampling in samplings], device=u_R1.device)
    before = probabilities_RW.cumsum(dim=-1) - probabilities_RW
    # top_p = 1 keeps every token, whatever the rounding of the sum.
    kept = probabilities_RW.masked_fill((before >= p) & (p < 1), 0.0)
    return order_RW.gather(-1, _invert(kept, u_R1)[:, None])[:, 0].tolist()


def _invert(weights_RW: Tensor, u_R1: Tensor) -> Tensor:
    """The index where the running sum passes u times the total: a weighted draw, (R,)."""
    running = weights_RW.cumsum(dim=-1)
    # Just below the total, so that rounding cannot select an index after the last weight.
    target = (u_R1 * running[:, -1:]).minimum(running[:, -1:] * (1 - 2**-23))
    return torch.searchsorted(running, target, right=True)[:, 0]


def score(
    logits_RV: Tensor, tokens: Sequence[int], tops: Sequence[int], known: int
) -> list[TokenScore]:
    """The log-probability of each row's token and its `tops` likeliest of the first `known` ids.

    Costs a softmax over the vocabulary, so call it only for rows that want it.
    """
    logs = logits_RV.log_softmax(dim=-1)
    own = logs.gather(-1, torch.tensor(tokens, device=logs.device)[:, None])[:, 0].tolist()
    most = min(max(tops), known)
    best = logs[:, :known].topk(most, dim=-1)
    return [
        TokenScore(token, value, tuple(zip(ids[:top], likely[:top], strict=True)))
        for token, value, top, ids, likely in zip(
            tokens, own, tops, best.indices.tolist(), best.values.tolist(), strict=True
        )
    ]
