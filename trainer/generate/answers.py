"""Which tokens of a conversation the assistant said: those that training counts.

A template that marks them with `{% generation %}` is believed, as transformers does. Any other is
asked twice per answer: for the messages before it with the beginning of an answer, and for the
messages up to it. What the second text has more is the answer, the end of the turn included. Both
texts must begin the whole conversation. Some templates write earlier turns differently (Qwen3's
leaves out old thoughts). Then the answer is what follows the beginning of an answer, if that occurs
once for each, up to the token that ends answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import UserError
from trainer.data.marks import Answered
from trainer.data.tokenizer import Tokenizer
from trainer.generate.template_sandbox import GENERATION
from trainer.generate.templates import ChatTemplate, Given, Message

Span = tuple[int, int]  # characters of the text


@dataclass(frozen=True)
class Dialogue:
    """A conversation to learn from.

    `prompt` is the number of messages before the part to learn; without it, all of the assistant's
    messages are learnt but those numbered in `unlearnt`.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    prompt: int | None = None
    unlearnt: frozenset[int] = frozenset()

    @property
    def answers(self) -> list[int]:
        """The numbers of the messages to learn."""
        return [
            number
            for number, message in enumerate(self.messages)
            if message.role == "assistant"
            and number >= (self.prompt or 0)
            and number not in self.unlearnt
        ]


class AnswerFinder:
    """Encodes dialogues with the template of a tokenizer's model."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self._template = template
        self._tokenizer = tokenizer

    def encode(self, dialogue: Dialogue) -> Answered:
        """The dialogue's tokens. Raises UserError when the template refuses the messages, and when
        it cannot be told what the assistant said."""
        given = self._template.given(dialogue.messages, dialogue.tools)
        if dialogue.prompt is not None:
            text = self._template.text_of(given, False)
            spans = [self._completion(given, text, dialogue.prompt)]
        elif self._template.marks_answers:
            text, spans = self._marked(given, dialogue)
        else:
            text = self._template.text_of(given, False)
            said = _said(dialogue)
            spans = [self._answer(given, text, said, number) for number in dialogue.answers]
        places = list(self._template.places(given, text, self._tokenizer.encode_places))
        return Answered([index for index, _, _ in places], _within(places, spans))

    def _marked(self, given: Given, dialogue: Dialogue) -> tuple[str, list[Span]]:
        """The text, and the parts of it that the template marks."""
        begin, end = given.unused(2)
        marks = dict(zip(GENERATION, (begin, end), strict=True))
        pieces, spans, place, began = [], [], 0, 0
        for piece in re.split(
            f"([{begin}{end}])", self._template.text_of(given, False, marks=marks)
        ):
            if piece == begin:
                began = place
            elif piece == end:
                spans.append((began, place))
            else:
                pieces.append(piece)
                place += len(piece)
        said = _said(dialogue)
        if dialogue.unlearnt:
            if len(spans) != len(said):
                raise UserError(
                    f"The model's chat template marks {len(spans)} of {len(said)} answers, so it "
                    "cannot be told which has weight 0"
                )
            spans = [
                span for n, span in zip(said, spans, strict=True) if n not in dialogue.unlearnt
            ]
        return "".join(pieces), spans

    def _completion(self, given: Given, text: str, prompt: int) -> Span:
        before = self._template.text_of(given, True, count=prompt)
        if not text.startswith(before):
            raise self._unstable("the prompt with the beginning of an answer")
        return len(before), len(text)

    def _answer(self, given: Given, text: str, said: list[int], number: int) -> Span:
        begin = self._begin(given, text, said, number)
        upto = self._template.text_of(given, False, count=number + 1)
        if text.startswith(upto) and len(upto) > begin:
            return begin, len(upto)
        end = self._template.end_of_turn(text, begin)
        # A later turn's end would take in the messages between.
        if end is None or text[begin:end] not in upto:
            raise self._unstable(f"message {number + 1} without those after it")
        return begin, end

    def _begin(self, given: Given, text: str, said: list[int], number: int) -> int:
        """Where the answer of message `number`, one of those `said` by the assistant, begins."""
        before = self._template.text_of(given, True, count=number)
        if text.startswith(before):
            return len(before)
        bare = self._template.text_of(given, False, count=number)
        header = before.removeprefix(bare)
        # Messages cannot hold a special token, so a header with one is the template's own.
        if header != before and self._template.has_special(header):
            places = [match.end() for match in re.finditer(re.escape(header), text)]
            if len(places) == len(said):
                return places[said.index(number)]
        raise self._unstable(f"what precedes message {number + 1}")

    def _unstable(self, what: str) -> UserError:
        return UserError(
            f"The model's chat template writes {what} differently than the beginning of the whole "
            "conversation, so it cannot be told what the assistant said: give --chat-template with "
            "a template that marks it with {% generation %}"
        )


def _said(dialogue: Dialogue) -> list[int]:
    """The numbers of the assistant's messages."""
    return [n for n, message in enumerate(dialogue.messages) if message.role == "assistant"]


def _within(places: Sequence[tuple[int, int, int]], spans: Sequence[Span]) -> list[bool]:
    """For every token, whether it has a character of a span. Both are in order."""
    said = [False] * len(places)
    token = 0
    for begin, end in spans:
        while token < len(places) and places[token][2] <= begin:
            token += 1
        while token < len(places) and places[token][1] < end:
            said[token] = True
            token += 1
    return said
