"""Words and regular expressions in bounded time."""

from __future__ import annotations

import re
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.search import Search

NAMES = ["Base-7b", "base-13b", "tuned/loss", "tuned/eval_loss", "ß straße", "x" * 300]


def found(query: str, names: list[str] = NAMES) -> list[str]:
    return Search(query).those_of(names, str)[0]


def test_words_and_expressions() -> None:
    assert found("base 7") == ["Base-7b"]
    assert found("STRASSE") == ["ß straße"]
    assert found("/^base-[0-9]+b$/") == ["Base-7b", "base-13b"]
    assert found("/eval") == ["tuned/eval_loss"]  # its second slash is still missing
    assert found("") == NAMES
    assert found("/") == ["tuned/loss", "tuned/eval_loss"]  # a word


@pytest.mark.parametrize(
    "query", ["/(x+x+)+y", "/(x|x)*y/", "/.*.*.*.*.*.*.*.*y/", "/(?:x?){300}x{300}y"]
)
def test_an_expression_that_would_take_for_ever_is_told_of(query: str) -> None:
    search = Search(query, seconds=0.05)
    names = [f"{i}{'x' * 400}" for i in range(30)]
    kept, problem = search.those_of(names, str)
    assert kept == names
    assert "takes too long" in problem
    assert search.those_of(names, str) == (names, problem)  # and at once
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


@given(st.text(max_size=12))
def test_any_query_answers(text: str) -> None:
    kept, problem = Search(text).those_of(NAMES, str)
    if problem:
        assert kept == NAMES
    kept, problem = Search(f"/{text}").those_of(NAMES, str)
    if not problem and text.strip():
        pattern = f"/{text}".strip()[1:].removesuffix("/")
        assert kept == [name for name in NAMES if re.search(pattern, name, re.IGNORECASE)]
