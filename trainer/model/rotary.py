"""Rotary positions (Su et al. 2021): which angle each pair of channels turns by at a position.

Shapes: T positions, C channels of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.config.model import ModelConfig

Rotary = tuple[Tensor, Tensor]  # cos and sin, (T, C) each, or (B, T, C)


def plain_frequencies(channels: int, theta: float) -> Tensor:
    """Radians per position of each pair of channels before scaling, (C/2,) fp32."""
    return 1.0 / theta ** (torch.arange(0, channels, 2).float() / channels)


def frequencies(model: ModelConfig, channels: int) -> Tensor:
    """Radians per position of each pair of channels, (C/2,) fp32."""
    plain = plain_frequencies(channels, model.rope_theta)
    if model.rope_scaling == "linear":  # Chen et al. 2023, arXiv:2306.15595
        return plain / model.rope_factor
    if model.rope_scaling == "llama3":
        return _llama3(plain, model)
    return plain


def _llama3(plain: Tensor, model: ModelConfig) -> Tensor:
    """Llama 3.1's: long wavelengths are slowed down, short ones stay, and those between are mixed.

    In transformers' order of operations, so that the results are the same to the last bit.
    """
    low, high = model.rope_low_freq_factor, model.rope_high_freq_factor
    factor, context = model.rope_factor, model.rope_original_context
    wavelength = 2 * math.pi / plain
    slowed = torch.where(wavelength > context / low, plain / factor, plain)
    share = (context / wavelength - low) / (high - low)
    mixed = (1 - share) * slowed / factor + share * slowed
    between = ~(wavelength < context / high) * ~(wavelength > context / low)
    return torch.where(between, mixed, slowed)


def rotary_table(model: ModelConfig, length: int, channels: int) -> Rotary:
    """cos and sin of position x frequency, frequencies repeated for rotate-half. (T, C) fp32."""
    if torch.get_default_device().type == "meta":
        # Shapes are enough there, and `arange` would load torch's compiler, which takes seconds.
        return torch.empty(length, channels), torch.empty(length, channels)
    angles = torch.outer(torch.arange(length).float(), frequencies(model, channels))
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()
