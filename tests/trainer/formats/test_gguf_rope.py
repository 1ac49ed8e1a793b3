"""Factors of rotary frequencies: as llama.cpp's converter writes them, and read back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config.model import ModelConfig
from trainer.formats.gguf_rope import rope_factors, rope_of_factors

LLAMA_3_2 = {
    "rope_theta": 500_000.0,
    "rope_scaling": "llama3",
    "rope_factor": 32.0,
    "rope_low_freq_factor": 1.0,
    "rope_high_freq_factor": 4.0,
    "rope_original_context": 8192,
}


def factors_of(channels: int, **fields: object) -> np.ndarray:
    model = ModelConfig.model_validate({"vocab_size": 9, "head_dim": channels} | fields)
    found = rope_factors(model)
    assert found is not None
    return found


def as_converted(channels: int, **fields: float) -> list[float]:
    """What `generate_extra_tensors` of convert_hf_to_gguf.py computes."""
    low, high = fields["rope_low_freq_factor"], fields["rope_high_freq_factor"]
    factor, context = fields["rope_factor"], fields["rope_original_context"]
    exponents = torch.arange(0, channels, 2, dtype=torch.float32) / channels
    factors = []
    for frequency in (1.0 / (fields["rope_theta"] ** exponents)).tolist():
        wavelength = 2 * math.pi / frequency
        if wavelength < context / high:
            factors.append(1.0)
        elif wavelength > context / low:
            factors.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


@pytest.mark.parametrize("channels", [16, 64, 128])
def test_factors_are_those_of_the_converter(channels: int) -> None:
    ours = factors_of(channels, **LLAMA_3_2)
    assert ours.dtype == np.float32 and ours.shape == (channels // 2,)
    np.testing.assert_allclose(ours, as_converted(channels, **LLAMA_3_2), rtol=1e-6)
    assert ours[0] == 1.0


@pytest.mark.parametrize("original", [8192, None])
def test_the_published_numbers_are_found_again(original: int | None) -> None:
    found = rope_of_factors(factors_of(64, **LLAMA_3_2), 64, 500_000.0, original)
    assert found == {key: value for key, value in LLAMA_3_2.items() if key != "rope_theta"}


@settings(max_examples=60, deadline=None)
@given(
    channels=st.sampled_from([4, 8, 16, 64, 128]),
    width=st.floats(0.1, 30),
    told=st.booleans(),
    fields=st.fixed_dictionaries(
        {
            "rope_theta": st.floats(100, 1e7),
            "rope_scaling": st.just("llama3"),
            "rope_factor": st.floats(1.1, 64),
            "rope_low_freq_factor": st.floats(0.1, 8),
            "rope_original_context": st.integers(16, 1 << 17),
        }
    ),
)
def test_any_factors_give_numbers_that_make_them(
    channels: int, width: float, told: bool, fields: dict[str, Any]
) -> None:
    fields["rope_high_freq_factor"] = fields["rope_low_freq_factor"] + width
    factors, theta = factors_of(channels, **fields), fields["rope_theta"]
    original = fields["rope_original_context"] if told else None
    found = rope_of_factors(factors, channels, theta, original)
    assert found is not None
    if found:
        made = factors_of(channels, rope_theta=theta, **found)
        np.testing.assert_allclose(made, factors, rtol=1e-5)
    else:
        assert (factors == 1).all()


@pytest.mark.parametrize(
    "factors",
    [
        np.linspace(1, 9, 32),  # of another kind of scaling
        np.full(31, 2.0),
        np.full(32, np.nan),
        np.full(32, np.inf),
        np.full(32, 0.5),
        np.zeros(32),
    ],
)
@pytest.mark.parametrize("theta", [10_000.0, 1.0, 1e-300])
def test_other_factors_are_not_taken_for_them(factors: np.ndarray, theta: float) -> None:
    assert rope_of_factors(factors.astype(np.float32), 64, theta, None) is None
