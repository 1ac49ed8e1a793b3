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

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

from shared.errors import UserError
from shared.text import one_line
from trainer.generate.template_sandbox import check_template, render_template

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")

PLAIN = """\
{%- for message in messages -%}
{{- {'system': '', 'user': 'User: ', 'assistant': 'Assistant: ', 'tool': 'User: '}[message.role] -}}
{{- message.content + '\n\n' -}}
{%- endfor -%}
{{- 'Assistant:' if add_generation_prompt -}}
"""
PLAIN_STOPS = ("\nUser:",)

_PLACEHOLDERS = range(0xF0000, 0x10FFFE)  # private use characters, which no vocabulary uses
_PROBE = "answer"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    `tool_calls` are those of an assistant, each an object as in OpenAI's API with its arguments as
    an object; `tool_call_id` and `name` belong to a tool's answer.
    """

    role: Role
    content: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise UserError(f"{one_line(self.role, 60)!r} is none of the roles {', '.join(ROLES)}.")

    def variables(self) -> dict[str, Any]:
        """The message as templates take it."""
        more = {
            "tool_calls": [dict(call) for call in self.tool_calls],
            "tool_call_id": self.tool_call_id,
            "name": self.name,
        }
        given = {key: value for key, value in more.items() if value}
        return {"role": self.role, "content": self.content, **given}


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
        self.takes_tools = bool(source and re.search(r"\btools\b", source))
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
        plain = [message.variables() for message in messages]
        return self._rendered(self._variables(plain, add_generation_prompt, ()))

    def _rendered(self, variables: Mapping[str, Any]) -> str:
        return render_template(self._source, variables)

    def encode(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> list[int]:
        """The conversation as token ids, ready to be answered.

        `tools` are objects as in OpenAI's API, for a template that takes them. Special tokens come
        only from the template. Raises UserError when the template refuses the messages or the
        tokenizer has no token for a character.
        """
        spelled: dict[str, str] = {}
        given = [[message.variables() for message in messages], list(tools)]
        used = {*self._source, *json.dumps(given, ensure_ascii=False)}
        plain, offered = _mapped(given, lambda text: self._set_aside(text, used, spelled))
        text = self._rendered(self._variables(plain, add_generation_prompt, offered))
        if not spelled:
            return self._tokenizer.encode(text, allow_special=True)
        ids: list[int] = []
        for piece in re.split(f"([{''.join(spelled)}])", text):
            if piece in spelled:
                ids += self._tokenizer.encode(spelled[piece])
            elif piece:
                ids += self._tokenizer.encode(piece, allow_special=True)
        return ids

    def _set_aside(self, text: str, used: Set[str], spelled: dict[str, str]) -> str:
        """`text` with an unused character in place of each special token's spelling."""

        def placeholder(match: re.Match[str]) -> str:
            known = next((k for k, v in spelled.items() if v == match.group()), None)
            if known is None:
                taken = used | spelled.keys()
                known = next(chr(code) for code in _PLACEHOLDERS if chr(code) not in taken)
                spelled[known] = match.group()
            return known

        return self._spelling.sub(placeholder, text)

    def _variables(
        self, messages: Sequence[Any], add_generation_prompt: bool, tools: Sequence[Any]
    ) -> dict[str, object]:
        return {
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
            "bos_token": self._tokenizer.bos_token,
            "eos_token": self._tokenizer.eos_token,
            "tools": tools or None,
            "documents": None,
        }


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """`value`, of JSON types, with every string in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    if isinstance(value, dict):
        return {change(key): _mapped(item, change) for key, item in value.items()}
    return value
