"""Configurations as other programs and people write them."""

from __future__ import annotations

import pytest

from shared.run.config import flat_config


@pytest.mark.parametrize("value", ["!!bool x", '!!int ""', "!!timestamp x", "&a [", "\0"])
def test_a_configuration_that_is_none_shows_nothing(value: str) -> None:
    assert flat_config(f"a: {value}") == {}


def test_an_alias_to_itself_ends() -> None:
    assert flat_config("a: &a [*a]\nb: {c: 1}") == {"a": "[…]", "b.c": "1"}
