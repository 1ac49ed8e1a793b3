"""The learning rate as a pure function of the step, so a checkpoint need not save it."""

from __future__ import annotations

import math

from trainer.config.schema import OptimConfig


def learning_rate(optim: OptimConfig, step: int, max_steps: int) -> float:
    """The rate of optimizer step `step` (1-based); step 0, before any training, has rate 0 when
    there is a warmup.

    `cosine` goes from the peak to min_lr over the steps after the warmup (Loshchilov & Hutter
    2017); `wsd` stays at the peak until `decay_start` of all steps and then follows the same curve
    (Hu et al. 2024).
    """
    peak = optim.learning_rate
    floor = optim.final_lr
    if step < optim.warmup_steps:
        return peak * step / optim.warmup_steps
    if optim.schedule == "constant":
        return peak
    start = optim.warmup_steps
    if optim.schedule == "wsd":
        start = max(start, int(optim.decay_start * max_steps))
    if step <= start or max_steps <= start:
        return peak
    progress = min(1.0, (step - start) / (max_steps - start))
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
