"""Scaled rotary positions in GGUF: by what factor each frequency is slower.

Llama 3's scaling is a tensor of factors, one for each pair of channels, as llama.cpp's converter
computes them. The numbers it was made with are not in the file; any that give the same factors are
the same model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.config.model import ModelConfig
from trainer.model.dimensions import dimensions
from trainer.model.rotary import frequencies, plain_frequencies

#: The tensor, beside those of the layers.
FACTORS = "rope_freqs.weight"
_TOLERANCE = 1e-5  # relative; the factors are fp32, computed in another order
#: Those of every published Llama, tried first.
_LOW, _HIGH, _ORIGINAL = 1.0, 4.0, 8192

Factors = NDArray[np.float32]


def rope_factors(model: ModelConfig) -> Factors | None:
    """By what each frequency is divided, (C/2,); None if the file needs no tensor for it."""
    if model.flavour == "gpt2" or model.rope_scaling != "llama3":
        return None
    return _factors(model, dimensions(model).C)


def rope_of_factors(
    factors: Factors, channels: int, theta: float, original: int | None
) -> dict[str, Any] | None:
    """The fields of ModelConfig that give these factors; None if Llama 3's scaling never does.

    `original` is the context before scaling, if the file says it.
    """
    if factors.shape != (channels // 2,) or not np.isfinite(factors).all() or factors.min() < 1:
        return None
    largest = float(factors.max())
    if largest == 1.0:
        return {}
    context = original or _ORIGINAL
    for low, high in _bounds(factors, largest, channels, theta, context):
        if not 0 < low < high:
            continue
        fields: dict[str, Any] = {
            "rope_scaling": "llama3",
            "rope_factor": largest,
            "rope_low_freq_factor": low,
            "rope_high_freq_factor": high,
            "rope_original_context": context,
        }
        # The values are checked with those of the other keys.
        made = _factors(ModelConfig.model_construct(rope_theta=theta, **fields), channels)
        if np.allclose(made, factors, rtol=_TOLERANCE, atol=0):
            return fields
    return None


def _factors(model: ModelConfig, channels: int) -> Factors:
    plain = plain_frequencies(channels, model.rope_theta)
    return np.asarray((plain / frequencies(model, channels)).numpy(), np.float32)


def _bounds(
    factors: Factors, largest: float, channels: int, theta: float, context: int
) -> Iterator[tuple[float, float]]:
    """The low and high frequency factors that these factors may come from.

    Between the two, a factor f means the share (1/f - 1/largest) / (1 - 1/largest), which is
    (context / wavelength - low) / (high - low): a line in 1/wavelength.
    """
    yield _LOW, _HIGH
    turns = context * plain_frequencies(channels, theta).double().numpy() / (2 * math.pi)
    if not np.isfinite(turns).all():
        return
    shares = (1 / factors.astype(np.float64) - 1 / largest) / (1 - 1 / largest)
    between = (shares > _TOLERANCE) & (shares < 1 - _TOLERANCE)
    # Frequencies fall: the unchanged ones come first, those slowed in full last.
    above = float(turns[shares >= 1 - _TOLERANCE].min(initial=np.inf))
    below = float(turns[shares <= _TOLERANCE].max(initial=0.0))
    if len(np.unique(turns[between])) >= 2:
        slope, start = np.polyfit(turns[between], shares[between], 1)
        low, high = -start / slope, (1 - start) / slope
        yield from ((round(low, digits), round(high, digits)) for digits in (2, 4, 6))
        yield low, high
        return
    if between.any():
        # One point: a line through it and as far to the left as the slowed ones allow.
        turn, share = float(turns[between][0]), float(shares[between][0])
        for low in (_LOW, below, below + (turn - below) / 2):
            yield low, low + (turn - low) / share
        high = min(above, turn + (turn - below))
        yield (turn - share * high) / (1 - share), high
        return
    # No point: a step anywhere between them.
    step = math.sqrt(below * above) if below and math.isfinite(above) else max(below, 1.0) * 2
    yield step * (1 - 1e-6), step * (1 + 1e-6)
