"""From a conversation to the tokens a model was taught to answer.

A model's own chat template decides where special tokens stand. What people wrote is only ever text:
`<|im_end|>` in a message is spelled out, and ends no turn.

A base model has no template and was taught no turns. For it there is a plain one, which models that
have read dialogues can go on with:

    What the system message says.

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

_PLACEHOLDERS = range(0xF0000, 0x10FFFE)  # for private use: in no vocabulary as anything else
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
    """What a template needs of a tokenizer."""

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

    `stop_texts` end an answer where no token does.
    """

    def __init__(self, tokenizer: TemplateTokenizer, source: str | None = None) -> None:
        """Raises UserError when `source` cannot be read."""
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
        """The tokens that end an answer: the end of a text, and what the template puts behind one.

        Llama 3 ends a turn with <|eot_id|> and a text with <|end_of_text|>: either is an end here.
        """
        ends = {self._tokenizer.eos_id}
        try:
            text = self.render(
                [Message("user", _PROBE), Message("assistant", _PROBE)], add_generation_prompt=False
            )
        except UserError:  # it asks for a conversation of another kind
            return frozenset(ends)
        behind = self._spelling.search(text, text.rfind(_PROBE))
        if behind:
            ends.add(self._special[behind.group()])
        return frozenset(ends)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as text, with the beginning of an answer. For people to read.

        Raises UserError when the template refuses it.
        """
        return render_template(self._source, self._variables(messages, add_generation_prompt))

    def encode(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """The conversation as token ids, ready to be answered.

        Special tokens come from the template alone. Raises UserError when it refuses the messages,
        or when the tokenizer has no token for a character.
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
        """`text` with a character nobody uses in the place of each special token's spelling."""

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
