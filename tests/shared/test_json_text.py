"""Records are written whatever is in them."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.json_text import encode_line, parse_nonfinite
from shared.run.record_lines import parse_line

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["nan", "-inf", "running"]),
)
anything = st.recursive(
    st.one_of(
        scalars,
        st.text(st.characters()),  # lone surrogates among them
        st.binary(max_size=5),
        st.sampled_from([Path("x"), Decimal("1.5"), {1, 2}, np.float32(1.5), np.arange(3), object]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(st.characters(), max_size=3) | st.integers(), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "null", "c d"]),
        st.none() | st.floats() | st.integers(0, 9) | st.sampled_from(["null", "a null b"]),
    )
)
def test_nonfinite_numbers_are_named_beside_anything_that_is_null(record: dict[str, Any]) -> None:
    found = json.loads(encode_line(record))
    bad = {key for key, x in record.items() if isinstance(x, float) and not math.isfinite(x)}
    assert found.pop("nonfinite", {}).keys() == bad
    assert found == {key: None if key in bad else value for key, value in record.items()}


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(st.characters(), max_size=5), anything, max_size=5))
def test_every_record_becomes_one_line_that_can_be_read(record: dict[str, Any]) -> None:
    line = encode_line({**record, "step": 3})
    assert b"\n" not in line
    found = parse_line(line)
    assert found is not None
    assert found["step"] == 3


def test_a_record_may_be_deep_or_contain_itself() -> None:
    deep: dict[str, Any] = {}
    deep["self"] = deep
    assert parse_line(encode_line({"step": 1, "deep": deep})) is not None


def test_nonfinite_numbers_are_named() -> None:
    line = encode_line({"step": 1, "loss": math.nan, "a": math.inf, "b": -math.inf, "c": 1.0})
    assert json.loads(line) == {
        "step": 1,
        "loss": None,
        "a": None,
        "b": None,
        "c": 1.0,
        "nonfinite": {"loss": "nan", "a": "inf", "b": "-inf"},
    }


@pytest.mark.parametrize("text", ["", "1", "nano", "infinite", "nan nan", "-", "1e999", "x" * 100])
def test_other_text_is_no_number(text: str) -> None:
    assert parse_nonfinite(text) is None
