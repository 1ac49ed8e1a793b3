"""From a conversation to the tokens that a model was trained to answer.

Special tokens come only from the model's chat template. Messages are plain text: `<|im_end|>` in a
message is encoded as characters and ends no turn.

A base model has no template and was not trained on turns. It gets a plain one, which models that
have read dialogues can continue:

    The system message.

    User: What is a list?

    Assistant:
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from shared.errors import UserError
from shared.text import one_line
from trainer.generate.template_sandbox import check_template, render_template

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")

PLAIN = """\
{%- for message in messages -%}
{{- {'system': '', 'user': 'User: ', 'assistant': 'Assistant: '}[message.role] -}}
{{- message.content + '\n\n' -}}
{%- endfor -%}
{{- 'Assistant:' if add_generation_prompt -}}
"""
PLAIN_STOPS = ("\nUser:",)

_PLACEHOLDERS = range(0xF0000, 0x10FFFE)  # private use characters, which no vocabulary uses
_PROBE = "answer"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise UserError(f"{one_line(self.role, 60)!r} is none of the roles {', '.join(ROLES)}.")


class TemplateTokenizer(Protocol):
    """The part of a tokenizer that a template needs."""

    bos_token: str
    eos_token: str
    eos_id: int

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of every special token."""

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`."""

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of `ids`."""


class ChatTemplate:
    """The template of a model: `source` in Jinja, or the plain one when it is None.

    `stop_texts` end an answer of a model that has no token for it.
    """

    def __init__(self, tokenizer: TemplateTokenizer, source: str | None = None) -> None:
        """Raises UserError when `source` cannot be parsed."""
        self._tokenizer = tokenizer
        self._source = PLAIN if source is None else source
        self.is_plain = source is None
        self.stop_texts: tuple[str, ...] = PLAIN_STOPS if self.is_plain else ()
        self._special = {tokenizer.decode([index]): index for index in tokenizer.special_ids}
        longest_first = sorted(filter(None, self._special), key=len, reverse=True)
        self._spelling = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        check_template(self._source)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """The tokens that end an answer: the end of a text, and what the template puts after one.

        Llama 3 ends a turn with <|eot_id|> and a text with <|end_of_text|>; both end an answer.
        """
        ends = {self._tokenizer.eos_id}
        try:
            text = self.render(
                [Message("user", _PROBE), Message("assistant", _PROBE)], add_generation_prompt=False
            )
        except UserError:  # it wants another kind of conversation
            return frozenset(ends)
        behind = self._spelling.search(text, text.rfind(_PROBE))
        if behind:
            ends.add(self._special[behind.group()])
        return frozenset(ends)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as text, with the beginning of an answer, for people to read.

        Raises UserError when the template refuses it.
        """
        return render_template(self._source, self._variables(messages, add_generation_prompt))

    def encode(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """The conversation as token ids, ready to be answered.

        Special tokens come only from the template. Raises UserError when the template refuses the
        messages or the tokenizer has no token for a character.
        """
        spelled: dict[str, str] = {}
        safe = [Message(m.role, self._set_aside(m.content, messages, spelled)) for m in messages]
        text = self.render(safe, add_generation_prompt=add_generation_prompt)
        if not spelled:
            return self._tokenizer.encode(text, allow_special=True)
        ids: list[int] = []
        for piece in re.split(f"([{''.join(spelled)}])", text):
            if piece in spelled:
                ids += self._tokenizer.encode(spelled[piece])
            elif piece:
                ids += self._tokenizer.encode(piece, allow_special=True)
        return ids

    def _set_aside(self, text: str, messages: Sequence[Message], spelled: dict[str, str]) -> str:
        """`text` with an unused character in place of each special token's spelling."""

        def placeholder(match: re.Match[str]) -> str:
            known = next((k for k, v in spelled.items() if v == match.group()), None)
            if known is None:
                used = {*spelled, *self._source, *(c for m in messages for c in m.content)}
                known = next(chr(code) for code in _PLACEHOLDERS if chr(code) not in used)
                spelled[known] = match.group()
            return known

        return self._spelling.sub(placeholder, text)

    def _variables(
        self, messages: Sequence[Message], add_generation_prompt: bool
    ) -> dict[str, object]:
        return {
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "add_generation_prompt": add_generation_prompt,
            "bos_token": self._tokenizer.bos_token,
            "eos_token": self._tokenizer.eos_token,
            "tools": None,
            "documents": None,
        }
