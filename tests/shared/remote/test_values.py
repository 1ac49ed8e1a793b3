"""What a host says of itself, whatever it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.data.machine import MachineView
from shared.remote.values import StrangeValueError, decode, encode

NUMBER = st.none() | st.integers() | st.floats() | st.text(max_size=3)
USE = st.dictionaries(st.sampled_from(["cpu", "cores", "ram_used", "ram_total"]), NUMBER)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400, -(10**400), "1", True])
def test_a_figure_is_a_finite_number(number):
    with pytest.raises(StrangeValueError):
        decode(MachineView, {"host": "h", "host_use": {"cpu": number}})


@given(use=USE)
def test_what_is_decoded_is_encoded_as_it_was(use):
    told = {"host": "h", "host_use": use}
    try:
        view = decode(MachineView, told)
    except StrangeValueError:
        return
    again = encode(view)["host_use"]
    assert {key: again[key] for key in use} == use
