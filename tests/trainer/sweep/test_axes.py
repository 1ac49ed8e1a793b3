"""What `--set` of a sweep means: values, ranges, and what is neither."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UserError
from shared.text import one_line
from trainer.sweep.axes import Range, Values, parse_axes, short_names, value_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optim.learning_rate=1e-3,3e-3", (0.001, 0.003)),
        ("optim.name=adamw,muon+lion", ("adamw", "muon+lion")),
        ("optim.min_lr=null,0", (None, 0)),
        ("model.lora_targets=[q_proj],[q_proj,v_proj]", (["q_proj"], ["q_proj", "v_proj"])),
        ("data.path='a,b',c", ("a,b", "c")),
        ("model.parts={skips: {}},{}", ({"skips": {}}, {})),
    ],
)
def test_values_are_yaml(text: str, expected: tuple[object, ...]) -> None:
    fixed, [axis] = parse_axes([text])
    assert fixed == {}
    assert isinstance(axis, Values)
    assert axis.values == expected


def test_one_value_holds_for_every_run() -> None:
    fixed, axes = parse_axes(["train.batch_size=4", "model.lora_targets=[a,b]", "x.y={a: 1}"])
    assert fixed == {"train.batch_size": 4, "model.lora_targets": ["a", "b"], "x.y": {"a": 1}}
    assert axes == []


@pytest.mark.parametrize(
    ("text", "low", "high", "whole"),
    [
        ("k=1e-4..1e-2", 1e-4, 1e-2, False),
        ("k=0..0.5", 0, 0.5, False),
        ("k=8..64", 8, 64, True),
        ("k=-3..-1", -3, -1, True),
    ],
)
def test_ranges(text: str, low: float, high: float, whole: bool) -> None:
    _, [axis] = parse_axes([text])
    assert axis == Range("k", low, high, whole)
    assert isinstance(axis, Range)
    drawn = {axis.draw(random.Random(seed)) for seed in range(50)}
    assert all(low <= value <= high for value in drawn)
    assert len(drawn) > 2 or whole
    assert all(isinstance(value, int) for value in drawn) == whole


def test_a_range_above_zero_is_uniform_by_its_logarithm() -> None:
    _, [axis] = parse_axes(["optim.learning_rate=1e-4..1e-2"])
    assert isinstance(axis, Range)
    generator = random.Random(1)
    small = sum(axis.draw(generator) < 1e-3 for _ in range(2000))
    assert 850 < small < 1150
    assert str(axis) == "optim.learning_rate: log-uniform in 0.0001..0.01"


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["optim.learning_rate"], "needs the form section.key=value"),
        (["optim.learning_rate="], "has no value"),
        (["optim.learning_rate=1,"], "empty value"),
        (["optim.learning_rate=,1"], "empty value"),
        (["a=1,2", "a=3"], "given twice"),
        (["a=1", "a=2"], "given twice"),
        (["a=2..1"], "not a range"),
        (["a=1e999..2"], "not a range"),
        (["a=1..2,3"], "mixes the range"),
        (["a=[1,2"], "is not a YAML value"),
        (["name=a,b"], "cannot be swept"),
        (["checkpoint.dir=a,b"], "cannot be swept"),
    ],
)
def test_what_cannot_be_read_is_named(texts: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_axes(texts)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(value: str) -> None:
    try:
        fixed, axes = parse_axes([f"optim.name={value}"])
    except UserError as error:
        assert one_line(error) == str(error)
    else:
        assert fixed or axes
        for axis in axes:
            assert one_line(axis, 10_000) == str(axis)


def test_short_names_stay_distinct() -> None:
    assert short_names(["optim.learning_rate", "train.batch_size"]) == {
        "optim.learning_rate": "lr",
        "train.batch_size": "batch_size",
    }
    assert set(short_names(["data.path", "data.val_path", "x.path"]).values()) == {
        "data.path",
        "val_path",
        "x.path",
    }


def test_values_for_people() -> None:
    shown = [value_text(v) for v in (0.001, 1e-5, 0.123456789, 3, True, None, "muon", ["a", "b"])]
    assert shown == ["0.001", "1e-05", "0.123456789", "3", "true", "null", "muon", "[a, b]"]
