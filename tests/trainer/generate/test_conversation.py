"""Turns: what the model is given, what it forgets, what is remembered of an answer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from shared.errors import UserError
from trainer.checkpoint.opening import OpenedModel, open_model
from trainer.generate.conversation import Completion, Conversation
from trainer.generate.sampling import Sampling
from trainer.generate.templates import ChatTemplate, Message

CONTEXT = 64
BRIEF = "{% for m in messages %}{{ m.role[0] + m.content }}{% endfor %}A"


@pytest.fixture(scope="module")
def opened(trained: Path) -> OpenedModel:
    return open_model(trained, torch.device("cpu"))


def talk_with(
    opened: OpenedModel, kind: type[Conversation] = Conversation, end_ids: Iterable[int] = ()
) -> Conversation:
    template = ChatTemplate(opened.tokenizer, BRIEF)
    return kind(
        opened.model,
        opened.tokenizer,
        template,
        max_new_tokens=8,
        sampling=Sampling(0.8),
        seed=1,
        end_ids=end_ids,
    )


def say(talk: Conversation, text: str) -> str:
    return "".join(talk.answer(text, talk.ask(text)))


def text_of(opened: OpenedModel, ids: tuple[int, ...]) -> str:
    return opened.tokenizer.decode(ids)


def test_what_was_said_is_given_again(opened: OpenedModel) -> None:
    talk = talk_with(opened)
    talk.system = "S"
    first = say(talk, "one")
    assert 0 < len(first) <= 8
    assert text_of(opened, talk.ask("two").ids) == f"sSuonea{first}utwoA"
    assert talk.messages() == [
        Message("system", "S"),
        Message("user", "one"),
        Message("assistant", first),
    ]
    talk.reset()
    assert text_of(opened, talk.ask("two").ids) == "sSutwoA"


def test_the_same_seed_gives_the_same_answer(opened: OpenedModel) -> None:
    assert say(talk_with(opened), "x") == say(talk_with(opened), "x")


def test_the_oldest_turns_go_when_the_context_is_full(opened: OpenedModel) -> None:
    talk = talk_with(opened)
    talk.system = "keep"
    begins = []
    for turn in range(6):
        prompt = talk.ask(f"{turn}" * 12)
        assert len(prompt.ids) + 8 <= CONTEXT
        assert text_of(opened, prompt.ids).startswith("skeep")
        begins.append(prompt.begin)
        list(talk.answer(f"{turn}" * 12, prompt))
        assert talk.forgotten == prompt.begin
    assert begins == sorted(begins)
    assert begins[0] == 0 and begins[-1] >= 6
    assert len(talk.messages()) == 13, "what is forgotten can still be saved"


def test_a_message_that_is_too_long_is_refused_and_nothing_changes(opened: OpenedModel) -> None:
    talk = talk_with(opened)
    say(talk, "one")
    before = talk.messages()
    with pytest.raises(UserError, match="fit beside the answer; shorten it"):
        talk.ask("x" * 100)
    assert talk.messages() == before


def test_an_answer_that_is_stopped_is_remembered_as_far_as_it_came(opened: OpenedModel) -> None:
    talk = talk_with(opened)
    pieces = talk.answer("one", talk.ask("one"))
    first = next(pieces)
    pieces.close()
    assert talk.turns == [Message("user", "one"), Message("assistant", first)]


def test_a_base_model_goes_on_with_each_text_by_itself(opened: OpenedModel) -> None:
    talk = talk_with(opened, Completion)
    say(talk, "def one")
    assert text_of(opened, talk.ask("def ").ids) == "def "
    with pytest.raises(UserError, match="The text has 100 tokens, and 56 fit"):
        talk.ask("x" * 100)


@pytest.mark.parametrize("kind", [Conversation, Completion])
def test_every_end_of_the_model_ends_an_answer(
    kind: type[Conversation], opened: OpenedModel
) -> None:
    said = say(talk_with(opened, kind), "one")
    third = said[2]  # a token is a character here
    (token,) = opened.tokenizer.encode(third)
    assert say(talk_with(opened, kind, end_ids={token}), "one") == said[: said.index(third)]
