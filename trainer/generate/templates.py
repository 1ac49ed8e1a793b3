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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
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
    an object; `tool_call_id` and `name` belong to a tool's answer. `reasoning_content` are thoughts
    before an answer, for templates that know of them.
    """

    role: Role
    content: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str = ""
    name: str = ""
    reasoning_content: str = ""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise UserError(f"{one_line(self.role, 60)!r} is none of the roles {', '.join(ROLES)}.")

    def variables(self) -> dict[str, Any]:
        """The message as templates take it."""
        more = {
            "tool_calls": [dict(call) for call in self.tool_calls],
            "tool_call_id": self.tool_call_id,
            "name": self.name,
            "reasoning_content": self.reasoning_content,
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


@dataclass(frozen=True)
class Given:
    """Messages and tools as a template takes them, where each spelling of a special token is
    replaced by a character that nothing else uses: a key of `spelled`."""

    messages: list[Any]
    tools: list[Any]
    spelled: dict[str, str]
    used: frozenset[str]

    def unused(self, number: int) -> list[str]:
        """So many more characters that nothing uses."""
        taken = self.used | self.spelled.keys()
        free = (chr(code) for code in _PLACEHOLDERS if chr(code) not in taken)
        return [next(free) for _ in range(number)]

    def pieces(self, text: str) -> Iterator[tuple[str, str | None]]:
        """`text` cut at those characters: each piece, and what it spells if it is one of them."""
        if not self.spelled:
            yield text, None
            return
        for piece in re.split(f"([{''.join(self.spelled)}])", text):
            if piece:
                yield piece, self.spelled.get(piece)


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
        given = self.given(messages, tools)
        ids: list[int] = []
        for piece, spelling in given.pieces(self.text_of(given, add_generation_prompt)):
            if spelling is None:
                ids += self._tokenizer.encode(piece, allow_special=True)
            else:
                ids += self._tokenizer.encode(spelling)
        return ids

    def given(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Given:
        """Messages and tools with the spelling of special tokens set aside."""
        spelled: dict[str, str] = {}
        given = [[message.variables() for message in messages], list(tools)]
        used = frozenset((*self._source, *json.dumps(given, ensure_ascii=False)))
        plain, offered = _mapped(given, lambda text: self._set_aside(text, used, spelled))
        return Given(plain, offered, spelled, used)

    def text_of(
        self,
        given: Given,
        add_generation_prompt: bool,
        *,
        count: int | None = None,
        marks: Mapping[str, str] | None = None,
    ) -> str:
        """The text for the first `count` messages, all by default, with `marks` as variables of
        the template. Raises UserError when the template refuses them."""
        messages = given.messages if count is None else given.messages[:count]
        variables = self._variables(messages, add_generation_prompt, given.tools)
        return self._rendered({**variables, **(marks or {})})

    def places(
        self, given: Given, text: str, encode: Callable[[str], Iterable[tuple[int, int, int]]]
    ) -> Iterator[tuple[int, int, int]]:
        """The ids of a `text_of`, each with where it begins and ends in that text. `encode` does
        that for a text in which special tokens are spelled."""
        place = 0
        for piece, spelling in given.pieces(text):
            end = place + len(piece)
            if spelling is None:
                for index, begins, ends in encode(piece):
                    yield index, place + begins, place + ends
            else:
                for index in self._tokenizer.encode(spelling):
                    yield index, place, end
            place = end

    def has_special(self, text: str) -> bool:
        """Whether a part of a `text_of` has a special token."""
        return self._spelling.search(text) is not None

    def end_of_turn(self, text: str, begin: int) -> int | None:
        """Where the turn that begins there ends: after the first token that ends an answer, and the
        white space that follows it. None if there is no such token."""
        ends = [s for s, index in self._special.items() if s and index in self.stop_ids]
        found = re.compile(f"(?:{'|'.join(map(re.escape, ends))})\\s*").search(text, begin)
        return found.end() if found else None

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

    @property
    def marks_answers(self) -> bool:
        """Whether the template marks the assistant's text for training."""
        return re.search(r"\{%[-+]?\s*generation\b", self._source) is not None


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """`value`, of JSON types, with every string in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    if isinstance(value, dict):
        return {change(key): _mapped(item, change) for key, item in value.items()}
    return value
