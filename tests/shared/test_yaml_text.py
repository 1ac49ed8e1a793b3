from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.yaml_text import DuplicateKeyError, load_yaml

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(value=VALUES)
def test_what_was_dumped_is_loaded(value: object) -> None:
    assert load_yaml(yaml.safe_dump(value)) == value


@pytest.mark.parametrize(
    ("text", "name", "lines"),
    [
        ("train: {a: 1}\noptim: {}\ntrain: {b: 2}\n", "train", "1 and 3"),
        ("train:\n  a: 1\n  b: 2\n  a: 3\n", "a", "2 and 4"),
        ("x: {a: 1, 'a': 2}\n", "a", "1 and 1"),
        ("- {q: 1,\n   q: 2}\n", "q", "1 and 2"),
    ],
)
def test_a_key_that_stands_twice_is_refused(text: str, name: str, lines: str) -> None:
    with pytest.raises(DuplicateKeyError) as caught:
        load_yaml(text)
    assert f"'{name}' stands twice, in lines {lines}" in str(caught.value.problem)


@pytest.mark.parametrize("text", ["a: &a [x]\nb: *a", "[" * 5000, "a: 2001-99-99"])
def test_other_traps_are_yaml_errors(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)
