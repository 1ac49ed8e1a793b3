"""The state read from anything, and records written whatever is in them."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.json_text import encode_json
from shared.run.records import ExitRecord, PhaseTransition, RunState

FIELDS = {f.name: str(f.type) for f in dataclasses.fields(RunState)}
KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float,),
    "str": (str,),
    "bool": (bool,),
    "Json": (dict,),
    "None": (type(None),),
    "ExitRecord": (ExitRecord,),
    "tuple[PhaseTransition, ...]": (tuple,),
}

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(10**400), 10**400),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["nan", "-inf", "running"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["code", "reason", "last_log_lines", "step", "from", "to", "time"])
            | st.sampled_from(sorted(FIELDS)),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
)
states = st.dictionaries(st.sampled_from([*sorted(FIELDS), "unknown"]), json_values, max_size=12)


def assert_types(value: Any) -> None:
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        name = str(field.type)
        if name == "tuple[str, ...]":
            assert all(type(x) is str for x in content)
            continue
        parts = [name] if name.startswith("tuple") else name.split(" | ")
        allowed = tuple(kind for part in parts for kind in KINDS[part])
        assert type(content) in allowed, (field.name, content)


@settings(max_examples=300, deadline=None)
@given(states)
def test_any_object_gives_a_state_of_the_right_types(value: dict[str, Any]) -> None:
    state = RunState.from_json(value)
    assert_types(state)
    assert all(type(t) is PhaseTransition for t in state.phase_transitions)
    for part in (*state.phase_transitions, *([state.exit] if state.exit else [])):
        assert_types(part)
    again = RunState.from_json(orjson.loads(encode_json(state.to_json())))
    assert_types(again)
    # What was read once is kept, but for floats JSON cannot hold outside the two losses.
    assert encode_json(again.to_json()) == encode_json(
        RunState.from_json(orjson.loads(encode_json(again.to_json()))).to_json()
    )


def test_a_state_comes_back_as_it_was() -> None:
    state = RunState(
        run_id="a_1",
        status="failed",
        pid=7,
        current_step=5,
        max_steps=10,
        current_loss=0.25,
        exit=ExitRecord(1, "out of memory", ("one", "two")),
        phase_transitions=(PhaseTransition(3, "", "warmup", 1.5),),
        model={"name": "x", "parameters": 9},
        hub_repo="me/x",
    )
    assert RunState.from_json(json.loads(encode_json(state.to_json()))) == state


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_divergence_survives_in_strict_json(loss: float) -> None:
    text = encode_json(RunState(current_loss=loss, best_loss=1.0).to_json())
    value = json.loads(text, parse_constant=lambda _: pytest.fail("bare NaN"))
    assert value["current_loss"] is None
    state = RunState.from_json(value)
    assert repr(state.current_loss) == repr(loss)
    recovered = dataclasses.replace(state, current_loss=2.0)
    assert "nonfinite" not in recovered.to_json()


def test_wrong_types_become_defaults_and_unknown_keys_are_ignored() -> None:
    state = RunState.from_json(
        {"pid": "7", "status": 3, "max_steps": True, "current_step": 1e300, "model": [], "zzz": 1}
    )
    assert state == RunState()
