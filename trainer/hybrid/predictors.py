"""Predicted weights. A predictor is a function of the weights and of what was kept of them.

x is a trainable tensor now, a what it was after the last prediction (its anchor, at first where the
run began to predict), K the real steps since:

    outer_nesterov  m <- mu m + (a - x);  x <- a - eta (mu m + (a - x))     Nesterov over K steps as
                    one (SNOO, Kallusky et al. 2025, arXiv 2510.15830)
    ema_nesterov    m <- mu m + (1 - mu) (x - a);  x <- x + eta r m         with r the learning rate
                    as a share of its peak
    linear          x <- x + eta (x - a)                     as far again, if eta is 1
    regression      x <- x + eta K v, with v the slope of x over the K steps by least squares

Every one changes every trainable tensor that has moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: What is kept of every parameter, by name, in the order of the parameters.
Kept = Mapping[str, Sequence[Tensor]]


@dataclass(frozen=True)
class Situation:
    """`steps` real steps since the anchor, the learning rate as a share of its peak, how much of
    the prediction to take (`rate`, already with caution), and mu (`momentum`)."""

    steps: int
    relative_rate: float
    rate: float
    momentum: float


@dataclass(frozen=True)
class Predictor:
    """`keeps` are the tensors it needs of each parameter besides the anchor, all 0 at first.

    `predict` changes the weights in place. `observe`, if there is one, is called with the weights
    after each real step and the number of it since the anchor, from 1. `rate` and `momentum` are
    what it is used with.
    """

    keeps: tuple[str, ...]
    predict: Callable[[Sequence[Tensor], Kept, Situation], None]
    rate: float
    momentum: float = 0.0
    observe: Callable[[Sequence[Tensor], Kept, int], None] | None = None


def _outer_nesterov(weights: Sequence[Tensor], kept: Kept, now: Situation) -> None:
    anchors, moments = kept["anchor"], kept["moment"]
    back = torch._foreach_sub(list(anchors), list(weights))
    torch._foreach_mul_(list(moments), now.momentum)
    torch._foreach_add_(list(moments), back)
    torch._foreach_add_(back, list(moments), alpha=now.momentum)
    torch._foreach_copy_(list(weights), list(anchors))
    torch._foreach_add_(list(weights), back, alpha=-now.rate)


def _ema_nesterov(weights: Sequence[Tensor], kept: Kept, now: Situation) -> None:
    moments = list(kept["moment"])
    moved = torch._foreach_sub(list(weights), list(kept["anchor"]))
    torch._foreach_lerp_(moments, moved, 1 - now.momentum)
    torch._foreach_add_(list(weights), moments, alpha=now.rate * now.relative_rate)


def _linear(weights: Sequence[Tensor], kept: Kept, now: Situation) -> None:
    moved = torch._foreach_sub(list(weights), list(kept["anchor"]))
    torch._foreach_add_(list(weights), moved, alpha=now.rate)


def _observe(weights: Sequence[Tensor], kept: Kept, step: int) -> None:
    """The sums of x and of t x, relative to the anchor."""
    moved = torch._foreach_sub(list(weights), list(kept["anchor"]))
    torch._foreach_add_(list(kept["sum"]), moved)
    torch._foreach_add_(list(kept["weighted"]), moved, alpha=float(step))


def _regression(weights: Sequence[Tensor], kept: Kept, now: Situation) -> None:
    n = now.steps
    mean_t = (n + 1) / 2
    spread = n * (n * n - 1) / 12  # sum of (t - mean)^2 over t = 1 ... n
    slopes = torch._foreach_add(list(kept["weighted"]), list(kept["sum"]), alpha=-mean_t)
    torch._foreach_add_(list(weights), slopes, alpha=now.rate * n / spread)
    for name in ("sum", "weighted"):
        torch._foreach_zero_(list(kept[name]))


def kept_bytes(name: str | None, weights: int, optimizer: int) -> int:
    """The most bytes that are kept for a predictor, for so many bytes of trained weights and of
    optimizer state: its own tensors, and copies of both while a prediction is judged."""
    if name is None:
        return 0
    return (2 + len(PREDICTORS[name].keeps)) * weights + optimizer


PREDICTORS: dict[str, Predictor] = {
    "outer_nesterov": Predictor(("moment",), _outer_nesterov, rate=0.7, momentum=0.5),
    "ema_nesterov": Predictor(("moment",), _ema_nesterov, rate=0.6, momentum=0.9),
    "linear": Predictor((), _linear, rate=0.5),
    "regression": Predictor(("sum", "weighted"), _regression, rate=0.5, observe=_observe),
}
