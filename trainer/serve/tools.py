"""Tool calls: told to the model, required of it by a grammar, and read from its text."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.generate.batched.grammar import GrammarText
from trainer.generate.stopping import beginning_of_stop
from trainer.generate.templates import Message

BEGIN, END = "<tool_call>", "</tool_call>"  # as Qwen, SmolLM and Hermes write calls
NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}

_MARKED = re.compile(rf"{BEGIN}\s*(.*?)\s*(?:{END}|\Z)", re.DOTALL)
_COMPLETE = re.compile(rf"\s*{BEGIN}\s*(.*?)\s*{END}", re.DOTALL)
#: A string, perhaps not ended yet, or a bracket.
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z|\\\Z)|[{}\[\]]', re.DOTALL)
_CUT = re.compile(
    r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(.*)', re.DOTALL
)


@dataclass(frozen=True)
class Call:
    """One call: `arguments` is JSON, incomplete if the answer was cut."""

    name: str
    arguments: str

    def as_json(self, index: int | None = None) -> dict[str, Any]:
        """The call as OpenAI's API has it; with its `index` in a stream."""
        place = {} if index is None else {"index": index}
        function = {"name": self.name, "arguments": self.arguments}
        return {**place, "id": f"call_{uuid.uuid4().hex[:24]}", "type": "function"} | {
            "function": function
        }


@dataclass(frozen=True)
class CallDelta:
    """A part of a call in a stream: the first has the name, all have some of the arguments."""

    index: int
    arguments: str
    name: str = ""

    def as_json(self) -> dict[str, Any]:
        """The delta as OpenAI's API has it."""
        if self.name:
            return Call(self.name, self.arguments).as_json(self.index)
        return {"index": self.index, "function": {"arguments": self.arguments}}


def call_grammar(functions: Sequence[dict[str, Any]]) -> GrammarText:
    """A call of one of the functions, as JSON with `name` and `arguments`."""
    definitions: dict[str, Any] = {}
    calls = []
    for place, function in enumerate(functions):
        parameters = function.get("parameters") or NO_PARAMETERS
        if "properties" in parameters:
            parameters = {"type": "object", "additionalProperties": False} | parameters
        definitions[f"tool{place}"] = _moved(parameters, f"#/$defs/tool{place}")
        calls.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": function["name"]},
                    "arguments": {"$ref": f"#/$defs/tool{place}"},
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return GrammarText("json_schema", json.dumps({"$defs": definitions, "anyOf": calls}))


def _moved(schema: Any, root: str) -> Any:
    """`schema` with references to its own root as references to `root`."""
    if isinstance(schema, list):
        return [_moved(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: root + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, root)
        for key, value in schema.items()
    }


def described(messages: Sequence[Message], functions: Sequence[dict[str, Any]]) -> list[Message]:
    """The conversation for a model whose template has no tools: they become plain text."""
    plain = [_plain(message) for message in messages]
    if not functions:
        return plain
    lines = "\n".join(json.dumps(function, ensure_ascii=False) for function in functions)
    example = '{"name": "NAME", "arguments": {}}'
    text = f"You can call these functions:\n{lines}\nTo call one, answer with {BEGIN}{example}{END}"
    if plain and plain[0].role == "system":
        return [Message("system", f"{plain[0].content}\n\n{text}"), *plain[1:]]
    return [Message("system", text), *plain]


def _plain(message: Message) -> Message:
    if message.role == "tool":
        return Message("user", f"<tool_response>{message.content}</tool_response>")
    if not message.tool_calls:
        return message
    calls = [
        f"{BEGIN}{json.dumps(dict(call['function']), ensure_ascii=False)}{END}"
        for call in message.tool_calls
    ]
    return Message(message.role, "\n".join(filter(None, [message.content, *calls])))


class CallReader:
    """Splits an answer into text for people and calls, as it arrives.

    Text that could belong to a call is held back. With `forced` the whole answer is a call, whose
    arguments `deltas` gives as they come; other calls it gives when they are complete.
    """

    def __init__(self, names: Sequence[str], *, forced: bool) -> None:
        self._names = frozenset(names)
        self._forced = forced
        self._held = ""
        self._said = False
        self._calls_given = 0
        self._characters_given = 0  # of the arguments of a forced call

    def feed(self, text: str) -> str:
        """The text for people that is certain now."""
        self._held += text
        begun = self._held.lstrip()
        if (
            self._calls_given
            or self._forced
            or (not self._said and (not begun or begun[0] in "{["))
        ):
            return ""
        place = self._held.find(BEGIN)
        if place < 0:
            place = len(self._held) - beginning_of_stop(self._held, [BEGIN])
        certain, self._held = self._held[:place], self._held[place:]
        self._said = self._said or bool(certain)
        return certain

    def deltas(self) -> list[CallDelta]:
        """What has become certain of calls since the last time."""
        if self._forced:
            return self._forced_deltas()
        found: list[CallDelta] = []
        while complete := _COMPLETE.match(self._held):
            calls = self._calls(complete[1])
            if not calls:
                break
            self._held = self._held[complete.end() :]
            found += self._given(calls)
        return found

    def last_deltas(self) -> tuple[str, list[CallDelta]]:
        """The rest of the text and of the calls: the answer has ended."""
        found = self.deltas()
        if self._forced:
            return "", found
        given = self._calls_given
        text, calls = self.finish()
        return "" if given else text, [*found, *self._given(calls)]

    def _given(self, calls: Sequence[Call]) -> list[CallDelta]:
        found: list[CallDelta] = []
        for call in calls:
            found.append(CallDelta(self._calls_given, "", call.name))
            found.append(CallDelta(self._calls_given, call.arguments))
            self._calls_given += 1
        return found

    def _forced_deltas(self) -> list[CallDelta]:
        begun = _CUT.match(self._held)
        if begun is None:
            return []
        found: list[CallDelta] = []
        if not self._calls_given:
            found.append(CallDelta(0, "", json.loads(begun[1])))
            self._calls_given = 1
        arguments = begun[2][: end_of_value(begun[2])]
        new = arguments[self._characters_given :]
        self._characters_given = len(arguments)
        return [*found, CallDelta(0, new)] if new else found

    def finish(self) -> tuple[str, list[Call]]:
        """The rest of the text, and the calls."""
        text, self._held = self._held, ""
        if self._forced:
            cut = _CUT.match(text)
            calls = self._calls(text) or [Call(json.loads(cut[1]), cut[2])] if cut else []
            return "", calls
        marked = list(_MARKED.finditer(text))
        calls = [call for found in marked for call in self._calls(found[1])]
        if not marked:
            calls = self._calls(text)
        return ("", calls) if calls else (text, [])

    def _calls(self, text: str) -> list[Call]:
        """The calls in `text` if all of it is JSON of offered calls."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return []
        calls = []
        for item in found if isinstance(found, list) else [found]:
            name = item.get("name") if isinstance(item, dict) else None
            if not isinstance(name, str) or name not in self._names:
                return []
            arguments = item.get("arguments", item.get("parameters", {}))
            if not isinstance(arguments, str):
                arguments = json.dumps(arguments, ensure_ascii=False)
            calls.append(Call(name, arguments))
        return calls


def end_of_value(text: str) -> int:
    """Where the JSON object or list that `text` begins with ends, or all of it so far."""
    depth = 0
    for found in _STRUCTURE.finditer(text):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    return len(text)


def call_variables(name: str, arguments: str, identity: str) -> dict[str, Any]:
    """A call in the history as templates take it: with its arguments as an object."""
    try:
        value: Any = json.loads(arguments)
    except (ValueError, RecursionError):
        value = arguments
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": value}}
