"""The definition of a draw, computed naively in double precision."""

from __future__ import annotations

import torch

from trainer.generate.sampling import Sampling, filtered_logits


def inverse(
    logits: torch.Tensor, sampling: Sampling, uniform: float, margin: float = 1e-5
) -> set[int]:
    """The token whose share of the likeliest-first order contains `uniform`.

    More than one where `uniform` is within `margin` of an edge, or the two best logits of a greedy
    choice are within it: there rounding may decide.
    """
    if sampling.temperature == 0:
        return set((logits >= logits.max() - margin).nonzero().flatten().tolist())
    probabilities = filtered_logits(logits[None].double(), sampling)[0].double().softmax(-1)
    ordered = sampling.top_p < 1 or 0 < sampling.top_k < len(logits)
    order = probabilities.argsort(descending=True) if ordered else torch.arange(len(logits))
    edges = probabilities[order].cumsum(0)
    last = int(order[probabilities[order] > 0][-1])
    uniforms = (uniform - margin, uniform, uniform + margin)
    low, _, high = (int((edges <= u).sum()) for u in uniforms)
    places = range(low, high + 1)
    return {int(order[place]) if place < len(order) else last for place in places}
