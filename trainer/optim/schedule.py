"""The learning rate as a pure function of the step, so a checkpoint need not save it."""

from __future__ import annotations

import math
from collections.abc import Callable

from trainer.config.optim import OptimConfig

#: From 1 at the start of the decay to 0 at its end.
SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1.0 - progress,
    "sqrt": lambda progress: 1.0 - math.sqrt(progress),  # Hägele et al. 2024
}


def learning_rate(optim: OptimConfig, step: int, max_steps: int) -> float:
    """The rate of optimizer step `step` (1-based); step 0, before any training, has rate 0 when
    there is a warmup.

    `cosine` goes from the peak to min_lr over the steps after the warmup (Loshchilov & Hutter
    2017); `wsd` stays at the peak until the decay begins (Hu et al. 2024).
    """
    peak = optim.learning_rate
    floor = optim.final_lr
    if step < optim.warmup_steps:
        return peak * step / optim.warmup_steps
    start, shape = decay_start(optim, max_steps), "cosine"
    if optim.schedule == "wsd":
        shape = optim.decay_shape
    if step <= start or max_steps <= start:
        return peak
    progress = min(1.0, (step - start) / (max_steps - start))
    return floor + (peak - floor) * SHAPES[shape](progress)


def decay_start(optim: OptimConfig, max_steps: int) -> int:
    """The last step at the peak; `max_steps` when the rate never decays."""
    if optim.schedule == "constant":
        return max_steps
    if optim.schedule == "cosine":
        return optim.warmup_steps
    start = optim.decay_step
    if start is None:
        start = int(optim.decay_start * max_steps)
    return max(optim.warmup_steps, start)
