"""A record of conversation data as a `Dialogue`.

Two forms are read: `messages`, as OpenAI's and TRL's data has them, and `prompt` with `completion`,
each a text or a list of messages. `tools` may stand beside either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shared.text import one_line
from trainer.data.bad_records import BadRecordError
from trainer.generate.answers import Dialogue
from trainer.generate.templates import ROLES, Message

FIELDS = ("messages", "prompt", "completion", "tools")

_DEEPEST = 64  # levels of lists and objects in tools and their arguments


def dialogue_of(record: Mapping[str, Any]) -> Dialogue:
    """The conversation in a record. Raises BadRecordError."""
    tools = tuple(_tools(record.get("tools")))
    if record.get("messages") is not None:
        return _of_messages(record["messages"], tools)
    if record.get("prompt") is not None and record.get("completion") is not None:
        return _of_completion(record["prompt"], record["completion"], tools)
    known = ", ".join(map(one_line, record)) or "none"
    raise BadRecordError(
        f"has neither messages nor prompt and completion; its fields are {one_line(known, 120)}"
    )


def _of_messages(value: Any, tools: tuple[Mapping[str, Any], ...]) -> Dialogue:
    messages = _messages(value, "messages")
    unlearnt = frozenset(
        number
        for number, given in enumerate(value)
        if messages[number].role == "assistant" and _weight(given, number) == 0
    )
    dialogue = Dialogue(messages, tools, unlearnt=unlearnt)
    if not dialogue.answers:
        raise BadRecordError("has no message of the assistant to learn from")
    return dialogue


def _of_completion(prompt: Any, completion: Any, tools: tuple[Mapping[str, Any], ...]) -> Dialogue:
    before = _turn(prompt, "prompt", "user")
    after = _turn(completion, "completion", "assistant")
    if before[-1].role == "assistant":
        raise BadRecordError(": its prompt ends with a message of the assistant, not of the user")
    if not any(message.role == "assistant" for message in after):
        raise BadRecordError(": its completion has no message of the assistant")
    for number, given in enumerate(completion if isinstance(completion, list) else ()):
        if _weight(given, number) == 0:
            raise BadRecordError(
                f": message {number + 1} of completion has weight 0, and a completion is learnt "
                "whole: put it into the prompt, or give the record as messages"
            )
    return Dialogue((*before, *after), tools, prompt=len(before))


def _turn(value: Any, field: str, role: str) -> tuple[Message, ...]:
    if isinstance(value, str):
        value = [{"role": role, "content": value}]
    return _messages(value, field)


def _messages(value: Any, field: str) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        what = "is empty" if value == [] else "is no list of messages"
        raise BadRecordError(f": {field} {what}")
    return tuple(_message(given, number, field) for number, given in enumerate(value, 1))


def _message(given: Any, number: int, field: str) -> Message:
    where = f": message {number} of {field}"
    if not isinstance(given, Mapping):
        raise BadRecordError(f"{where} is no object with role and content")
    role = given.get("role")
    if role == "developer":  # OpenAI's newer name
        role = "system"
    if role not in ROLES:
        raise BadRecordError(
            f"{where} has the role {one_line(json.dumps(role), 60)}, which is none of "
            f"{', '.join(ROLES)}"
        )
    calls = given.get("tool_calls") or ()
    if not isinstance(calls, (list, tuple)):
        raise BadRecordError(f"{where} has tool_calls that are no list")
    calls = tuple(_call(call, where) for call in calls)
    content = _content(given.get("content"), where)
    if not content.strip() and not calls and role != "tool":
        raise BadRecordError(f"{where} ({role}) is empty")
    return Message(
        role,
        content,
        tool_calls=calls,
        tool_call_id=_text(given.get("tool_call_id"), f"{where}: tool_call_id"),
        name=_text(given.get("name"), f"{where}: name"),
        reasoning_content=_text(given.get("reasoning_content"), f"{where}: reasoning_content"),
    )


def _content(value: Any, where: str) -> str:
    """The text of a message: a string, or OpenAI's list of text parts."""
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in value]
        if not all(isinstance(part, str) for part in parts):
            raise BadRecordError(f"{where} has a part that is no text")
        return "".join(map(str, parts))
    return _text(value, f"{where}: content")


def _text(value: Any, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecordError(f"{what} is no text")
    return value


def _call(value: Any, where: str) -> dict[str, Any]:
    """A tool call as templates take it: with its arguments as an object."""
    function = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRecordError(f"{where} has a tool call without a function's name")
    given = arguments = function.get("arguments") or {}
    if isinstance(given, str):
        try:
            arguments = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise BadRecordError(f"{where} calls a tool with arguments that are no JSON") from error
    _check_depth(arguments, f"{where}: arguments of a tool call")
    if arguments is given:
        arguments = _without_none(arguments)
    call: dict[str, Any] = {
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }
    identity = value.get("id")
    return {"id": identity, **call} if isinstance(identity, str) and identity else call


def _tools(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, str):  # as TRL's data sets may have it
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRecordError(": tools is text that is no JSON") from error
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise BadRecordError(": tools is no list of objects")
    _check_depth(value, ": tools")
    return [_without_none(tool) for tool in value]


def _check_depth(value: Any, what: str) -> None:
    """Raise BadRecordError for what nests deeper than any template could write."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, (Mapping, list))
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
        ]
        if not level:
            return
    raise BadRecordError(f"{what} nests deeper than {_DEEPEST} levels")


def _without_none(value: Any) -> Any:
    """Without the nulls of Parquet, where objects of one column have the same fields."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _weight(given: Mapping[str, Any], number: int) -> float:
    """OpenAI's weight of a message: 0 for an answer that is not learnt."""
    weight = given.get("weight")
    if weight is None:
        return 1
    if weight not in (0, 1):
        raise BadRecordError(f": message {number + 1} has weight {one_line(weight, 40)}: 0 or 1")
    return float(weight)
