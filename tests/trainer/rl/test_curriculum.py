"""The curriculum: what is given of an answer, and when it becomes less."""

from __future__ import annotations

import json

import pytest
from hypothesis import given as with_examples
from hypothesis import settings
from hypothesis import strategies as st

from trainer.data.tokenizer_training import train_tokenizer
from trainer.loop.asking import rest_of
from trainer.rewards.interface import Verdict
from trainer.rl.curriculum import EASIER, FIRST, HARDER, WINDOW, Curriculum, given, success_rate
from trainer.rl.prompts import Prompts
from trainer.tasks.prompt import Prompt

BYTES = train_tokenizer((), kind="char")
REFERENCE = "\n    (year + extra) / 2\n}\n"


@with_examples(reference=st.text(max_size=60), share=st.floats(0, 1), room=st.integers(-3, 80))
@settings(max_examples=40, deadline=None)
def test_what_is_given_begins_the_answer_and_leaves_some_of_it(
    reference: str, share: float, room: int
) -> None:
    text, ids = given(BYTES.encode(reference), share, BYTES, room)
    assert reference.startswith(text) and BYTES.decode(ids) == text
    assert len(ids) <= max(0, room)
    whole = len(BYTES.encode(reference))
    assert len(ids) <= share * whole and (not ids or len(ids) < whole)


def test_most_is_given_at_first_and_nothing_at_last() -> None:
    text, ids = given(BYTES.encode(REFERENCE), FIRST, BYTES, 100)
    assert text == REFERENCE[: int(0.8 * len(REFERENCE))] and len(ids) == len(text)
    assert given(BYTES.encode(REFERENCE), 0.0, BYTES, 100) == ("", [])


def test_a_long_reference_leaves_room_for_an_answer() -> None:
    _, ids = given(BYTES.encode(REFERENCE), FIRST, BYTES, 10)
    assert len(ids) == int(0.8 * 10)


def test_what_the_prompt_holds_already_is_not_given_again() -> None:
    """The end of its line, where a tokenizer joins it with the brace before it."""
    tokenizer = train_tokenizer(["fn f() {\n    f()\n}\n"] * 50, vocab_size=300)
    task = Prompt("t", "fn f() {", "rust", reference="\n    f()\n}\n")
    (asked,) = Prompts([task], tokenizer, 99).next(0, 1, 1, 1)
    text, ids = given(rest_of(asked, tokenizer), 0.9, tokenizer, 99)
    assert "\n    f()\n}\n".startswith(asked.given + text)
    assert tokenizer.decode([*asked.ids, *ids]) == "fn f() {" + asked.given + text


def test_a_character_is_never_cut() -> None:
    text, _ = given(BYTES.encode("aé"), 0.7, BYTES, 100)  # 3 bytes
    assert text == "a"


def test_less_is_given_step_by_step_as_the_model_succeeds() -> None:
    curriculum = Curriculum()
    seen = [curriculum.share]
    for _ in range(10 * WINDOW):
        curriculum.take(HARDER)
        if curriculum.share != seen[-1]:
            seen.append(curriculum.share)
    assert seen == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    assert seen[-1] == 0.0


def test_more_is_given_again_where_the_model_fails_but_never_more_than_at_first() -> None:
    curriculum = Curriculum(share=0.7)
    for _ in range(3 * WINDOW):
        curriculum.take(EASIER / 2)
    assert curriculum.share == FIRST


def test_nothing_changes_in_between() -> None:
    curriculum = Curriculum(share=0.5)
    for _ in range(5 * WINDOW):
        curriculum.take((HARDER + EASIER) / 2)
    assert curriculum.share == 0.5


@with_examples(rates=st.lists(st.floats(0, 1), max_size=40), cut=st.integers(0, 40))
@settings(max_examples=25, deadline=None)
def test_a_resumed_curriculum_goes_on_exactly(rates: list[float], cut: int) -> None:
    whole, first = Curriculum(), Curriculum()
    for rate in rates:
        whole.take(rate)
    for rate in rates[:cut]:
        first.take(rate)
    resumed = Curriculum.of(json.loads(json.dumps(first.state)))
    for rate in rates[cut:]:
        resumed.take(rate)
    assert resumed == whole
    assert Curriculum.of({}) == Curriculum()


def test_success_is_passed_tests_or_compiling_where_there_are_none() -> None:
    def verdict(*, compiled: bool, tested: bool | None) -> Verdict:
        return Verdict(0.0, {}, parsed=True, compiled=compiled, tested=tested)

    some = [
        verdict(compiled=True, tested=None),
        verdict(compiled=True, tested=False),
        verdict(compiled=True, tested=True),
        verdict(compiled=False, tested=None),
    ]
    assert success_rate(some) == 0.5
    assert success_rate([]) == 0.0
