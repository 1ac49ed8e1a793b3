"""Types by name, arrays in them, and what each loses."""

from __future__ import annotations

import math

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from trainer.formats.gguf_types import (
    BY_LLAMA_CPP,
    TERNARY,
    WRITTEN_HERE,
    block_size,
    decode,
    encode,
    encoding_error,
    file_type,
    find_type,
    kind_of_file_type,
    stored_bytes,
)

#: Relative errors of normally distributed weights, a little above what was measured.
LOSS = {
    "F32": 0.0,
    "F16": 3e-4,
    "BF16": 2e-3,
    "Q8_0": 7e-3,
    "Q5_1": 0.04,
    "Q5_0": 0.05,
    "Q4_1": 0.08,
    "Q4_0": 0.1,
    "MXFP4": 0.14,
    "TQ1_0": 0.9,
    "TQ2_0": 0.9,
}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32) * np.float32(0.02)


@pytest.mark.parametrize("kind", WRITTEN_HERE)
def test_each_type_loses_what_it_must_and_takes_the_bytes_it_says(kind: str) -> None:
    weight = normal(16, 512)
    stored = encode(weight, kind)
    assert stored.nbytes == stored_bytes(kind, weight.shape)
    assert decode(stored, kind).shape == weight.shape
    assert LOSS[kind] / 3 <= encoding_error(weight, kind) <= LOSS[kind]


@given(
    trits=st.lists(st.sampled_from([-1, 0, 1]), min_size=256, max_size=256),
    scale=st.floats(2**-13, 100, width=16),
    kind=st.sampled_from(TERNARY),
)
@settings(deadline=None, max_examples=60)
def test_ternary_weights_with_a_float16_scale_are_kept_exactly(
    trits: list[int], scale: float, kind: str
) -> None:
    weight = np.array([trits, trits[::-1]], dtype=np.float32) * np.float32(scale)
    np.testing.assert_array_equal(decode(encode(weight, kind), kind), weight)
    assert encoding_error(weight, kind) == 0.0


def test_a_scale_that_is_no_float16_loses_a_little() -> None:
    weight = np.float32(0.0123456) * np.ones((1, 256), np.float32)
    assert 0 < encoding_error(weight, "TQ2_0") < 1e-3


def test_names_are_found_in_any_case_and_by_their_aliases() -> None:
    assert find_type("q8_0").name == "Q8_0"
    assert find_type("tq1-0").name == "TQ1_0"
    assert find_type("q4_k").name == "Q4_K_M" and find_type("Q4_K_M").by_llama_cpp
    alias = find_type("q1_58")
    assert alias.name == "TQ2_0" and "TQ2_0" in alias.note
    assert not find_type("F16").note


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"type 'q8_9' \(did you mean Q8_0\?\)"):
        find_type("q8_9")


def test_every_type_has_its_number_and_block() -> None:
    for kind in WRITTEN_HERE:
        assert file_type(kind) in iter(gguf.LlamaFileType)
        assert block_size(kind) in (1, 32, 256)
    assert all(f"MOSTLY_{kind}" in gguf.LlamaFileType.__members__ for kind in BY_LLAMA_CPP
               if kind not in ("Q6_K", "Q2_K"))  # fmt: skip


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    weight = normal(2, 256)
    weight[1, 3] = bad
    with pytest.raises(UserError, match="not finite"):
        encode(weight, "Q8_0")


def test_numbers_beyond_the_range_are_refused() -> None:
    weight = np.full((1, 256), 1e6, np.float32)
    with pytest.raises(UserError, match="BF16 or F32"):
        encode(weight, "F16")
    assert encode(weight, "BF16").nbytes == 512


@pytest.mark.parametrize("kind", (*WRITTEN_HERE, *BY_LLAMA_CPP))
def test_a_file_tells_the_type_it_was_written_in(kind: str) -> None:
    assert kind_of_file_type(file_type(kind)) == kind
    assert kind_of_file_type(-1) is None
