"""Records of conversations, good and bad."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.trainer.conversations.conftest import CALL, TOOL, said
from trainer.conversations.records import dialogue_of
from trainer.data.bad_records import BadRecordError

ASKED = said("user", "Hi")
ANSWERED = said("assistant", "Hello")


def test_messages_become_a_dialogue() -> None:
    record = {
        "id": 3,
        "tools": [TOOL],
        "messages": [
            said("developer", "Be brief."),
            said("user", [{"type": "text", "text": "What "}, {"type": "text", "text": "now?"}]),
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            said("tool", "", tool_call_id="call_1"),
            said("assistant", "Rain.", weight=0),
            said("assistant", "More rain.", weight=1),
        ],
    }
    dialogue = dialogue_of(record)
    assert [m.role for m in dialogue.messages] == [
        *("system", "user", "assistant", "tool", "assistant", "assistant")
    ]
    assert dialogue.messages[1].content == "What now?"
    assert dialogue.messages[2].tool_calls[0]["function"]["arguments"] == {"city": "Łódź"}
    assert dialogue.answers == [2, 5]
    assert dialogue.tools == (TOOL,)


def test_nulls_of_a_table_are_absent() -> None:
    """Parquet gives every object of a column the same fields."""
    call = {
        "id": None,
        "type": "function",
        "function": {"name": "f", "arguments": {"a": 1, "b": None}},
    }
    record = {
        "messages": [
            {**ASKED, "tool_calls": None},
            {**ANSWERED, "tool_calls": [call], "name": None},
        ],
        "prompt": None,
        "tools": None,
    }
    (made,) = dialogue_of(record).messages[1].tool_calls
    assert made == {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}


NESTED: dict[str, Any] = json.loads('{"a": ' * 400 + "1" + "}" * 400)

BAD: list[tuple[Any, str]] = [
    (
        {"text": "Hi", "id": 1},
        "has neither messages nor prompt and completion; its fields are text, id",
    ),
    ({"prompt": "Hi"}, "has neither messages"),
    ({"messages": "Hi"}, ": messages is no list of messages"),
    ({"messages": []}, ": messages is empty"),
    ({"messages": ["Hi"]}, ": message 1 of messages is no object"),
    ({"messages": [{"content": "Hi"}]}, ": message 1 of messages has the role null"),
    ({"messages": [ASKED, said("gpt", "x")]}, 'message 2 of messages has the role "gpt", which is'),
    ({"messages": [ASKED]}, "has no message of the assistant"),
    (
        {"messages": [ASKED, said("assistant", "", weight=1)]},
        "message 2 of messages (assistant) is empty",
    ),
    ({"messages": [said("user", " \n"), ANSWERED]}, "message 1 of messages (user) is empty"),
    ({"messages": [said("user", 7), ANSWERED]}, "content is no text"),
    ({"messages": [said("user", [{"type": "image_url"}]), ANSWERED]}, "has a part that is no text"),
    ({"messages": [ASKED, {**ANSWERED, "weight": 0}]}, "has no message of the assistant"),
    ({"messages": [ASKED, {**ANSWERED, "weight": 0.5}]}, "message 2 has weight 0.5"),
    ({"messages": [ASKED, {**ANSWERED, "tool_calls": ["f"]}]}, "without a function's name"),
    ({"messages": [ASKED, {**ANSWERED, "tool_calls": 5}]}, "has tool_calls that are no list"),
    ({"prompt": "x", "completion": [{**ANSWERED, "weight": 0}]}, "a completion is learnt whole"),
    ({"messages": [ASKED, ANSWERED], "tools": "{"}, ": tools is text that is no JSON"),
    ({"messages": [ASKED, ANSWERED], "tools": {"a": 1}}, ": tools is no list of objects"),
    ({"messages": [ASKED, ANSWERED], "tools": [NESTED]}, ": tools nests deeper"),
    (
        {"messages": [ASKED, {**ANSWERED, "tool_calls": [{"name": "f", "arguments": NESTED}]}]},
        "arguments of a tool call nests deeper",
    ),
    ({"prompt": "", "completion": "x"}, "message 1 of prompt (user) is empty"),
    ({"prompt": [ANSWERED], "completion": "x"}, "prompt ends with a message of the assistant"),
    ({"prompt": "x", "completion": [ASKED]}, "completion has no message of the assistant"),
    ({"prompt": {"a": 1}, "completion": "x"}, ": prompt is no list of messages"),
]


@pytest.mark.parametrize(("record", "told"), BAD, ids=range(len(BAD)))
def test_what_is_wrong_with_a_record_is_told(record: Any, told: str) -> None:
    with pytest.raises(BadRecordError) as caught:
        dialogue_of(record)
    assert told in str(caught.value)
