"""Choosing the next token from logits. B batch, V vocabulary.

Loads torch with the first choice only, so wrong options are told at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import RunError, UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NOT_FINITE = "The model's output is not finite: its training has diverged."
MIN_TEMPERATURE = 1e-30  # practically 0, and fp32 logits divided by it stay finite


@dataclass(frozen=True)
class Sampling:
    """How to choose: temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 keep every token.

    min_p drops tokens less likely than that share of the likeliest one.
    """

    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise UserError(f"--temperature is {self.temperature}; it must be between 0 and 100.")
        if self.top_k < 0:
            raise UserError(f"--top-k is {self.top_k}; it must be 0 (off) or more.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top-p is {self.top_p}; it must be above 0 and at most 1.")
        if not 0 <= self.min_p <= 1:
            raise UserError(f"--min-p is {self.min_p}; it must be between 0 (off) and 1.")

    @property
    def floor(self) -> float:
        """How far below the likeliest token's log-probability a token is dropped; -inf: never."""
        return math.log(self.min_p) if self.min_p else -math.inf


def filtered_logits(logits_BV: Tensor, sampling: Sampling) -> Tensor:
    """Logits divided by temperature, with -inf for the tokens that the filters exclude.

    In this order: min-p (Nguyen et al. 2024), top-k, and top-p, which keeps the smallest set of
    tokens whose probability reaches p (Holtzman et al. 2020).
    """
    scaled = logits_BV.float() / max(sampling.temperature, MIN_TEMPERATURE)
    if sampling.min_p:
        least = scaled.amax(dim=-1, keepdim=True) + sampling.floor
        scaled = scaled.masked_fill(scaled < least, -math.inf)
    if 0 < sampling.top_k < scaled.shape[-1]:
        kth = scaled.topk(sampling.top_k, dim=-1).values[..., -1:]
        scaled = scaled.masked_fill(scaled < kth, -math.inf)
    if sampling.top_p < 1.0:
        ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
        probabilities = ordered.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities
        beyond = before >= sampling.top_p
        scaled = scaled.masked_fill(beyond.scatter(-1, order, beyond), -math.inf)
    return scaled


def choose(logits_BV: Tensor, sampling: Sampling, generator: torch.Generator | None) -> Tensor:
    """The next token of every row, (B,). Drawn on the CPU, so a seed gives the same everywhere.

    Raises RunError if a row's logits are not finite, as in a diverged model.
    """
    import torch

    logits_BV = logits_BV.float().cpu()
    largest_B, likeliest_B = logits_BV.max(dim=-1)
    if not all(map(math.isfinite, largest_B.tolist())):
        raise RunError(NOT_FINITE)
    if sampling.temperature == 0:
        return likeliest_B
    probabilities = filtered_logits(logits_BV, sampling).softmax(dim=-1)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
