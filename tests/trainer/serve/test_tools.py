"""Tool calls through OpenAI's client, with the requests that LangChain and instructor send.

The model has random weights, so it calls a tool only when a grammar requires it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, Literal

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tests.trainer.serve.conftest import Running, running
from tests.trainer.serve.test_structured import served_model
from trainer.serve.served import chat_template
from trainer.serve.tools import BEGIN, END, Call, CallReader

TALK: Any = [{"role": "user", "content": "Weather?"}]
TEMPLATE = """\
{%- if tools %}<|tools|>{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}
{%- for m in messages %}<|{{ m.role }}|>{{ m.content }}
{%- for call in m.tool_calls or [] %}<call>{{ call.function.name }}:
{{- call.function.arguments | tojson }}</call>{% endfor %}
{%- if m.tool_call_id %}({{ m.tool_call_id }}){% endif %}
{%- endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""


class Place(BaseModel):
    """Where."""

    city: str = Field(max_length=5)
    unit: Literal["C", "F"]


class Weather(BaseModel):
    """The weather at some places."""

    place: Place
    days: int = Field(ge=1, le=9)


def tool(name: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    function: dict[str, Any] = {"name": name, "description": f"What {name} does."}
    return {
        "type": "function",
        "function": function | ({} if parameters is None else {"parameters": parameters}),
    }


TOOLS: Any = [tool("weather", Weather.model_json_schema()), tool("now")]
NAMED: Any = {"type": "function", "function": {"name": "weather"}}


@pytest.fixture(scope="module")
def wild() -> Iterator[Running]:
    """A random model without a template of its own."""
    with running(lambda: served_model("bpe", context=4096, slots=3)) as server:
        yield server


def chat(server: Running, **options: Any) -> Any:
    options = {"messages": TALK, "seed": 1, "tools": TOOLS, "max_tokens": 200} | options
    return server.client().chat.completions.create(model="wild", **options)


def test_a_named_tool_is_called_with_arguments_of_its_schema(wild: Running) -> None:
    """As instructor and LangChain's function_calling ask; nested models are references there."""
    for seed in range(3):
        answer = chat(wild, tool_choice=NAMED, seed=seed, parallel_tool_calls=False)
        (choice,) = answer.choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        (call,) = choice.message.tool_calls
        assert (call.type, call.function.name) == ("function", "weather")
        assert call.id.startswith("call_")
        Weather.model_validate_json(call.function.arguments)


def test_a_required_tool_is_any_of_them(wild: Running) -> None:
    found = set()
    for seed in range(6):
        (call,) = chat(wild, tool_choice="required", seed=seed).choices[0].message.tool_calls
        found.add(call.function.name)
        if call.function.name == "weather":
            Weather.model_validate_json(call.function.arguments)
        else:
            assert json.loads(call.function.arguments) == {}
    assert found <= {"weather", "now"}


def test_a_stream_of_a_call(wild: Running) -> None:
    whole = chat(wild, tool_choice=NAMED).choices[0].message.tool_calls[0].function
    pieces = list(chat(wild, tool_choice=NAMED, stream=True))
    deltas = [piece.choices[0].delta for piece in pieces]
    assert not any(delta.content for delta in deltas)
    calls = [call for delta in deltas for call in delta.tool_calls or []]
    assert {call.index for call in calls} == {0}
    assert calls[0].id.startswith("call_")
    assert [call.function.name for call in calls if call.function.name] == [whole.name]
    assert calls[0].function.arguments == "" and len(calls) > 3
    arguments = "".join(call.function.arguments or "" for call in calls)
    Weather.model_validate_json(arguments)
    assert pieces[-1].choices[0].finish_reason == "tool_calls"
    with wild.client().chat.completions.stream(
        model="wild", messages=TALK, tools=TOOLS, tool_choice=NAMED, seed=1
    ) as stream:
        final = stream.get_final_completion().choices[0].message.tool_calls
    assert final[0].function.name == "weather"


def test_the_clients_own_parser(wild: Running) -> None:
    answer = wild.client().chat.completions.parse(
        model="wild",
        messages=TALK,
        seed=2,
        tools=[openai.pydantic_function_tool(Weather)],
        tool_choice="required",
    )
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)


def test_a_call_that_is_cut_is_told_as_cut(wild: Running) -> None:
    for limit in (1, 8, 14):
        (choice,) = chat(wild, tool_choice=NAMED, max_tokens=limit).choices
        assert choice.finish_reason == "length"
        for call in choice.message.tool_calls or ():
            assert call.function.name == "weather"


def test_a_model_that_may_call_answers_in_text_too(wild: Running) -> None:
    message = chat(wild, tool_choice="auto", max_tokens=20).choices[0].message
    assert message.content
    assert message.tool_calls is None
    told, without = (
        chat(wild, tool_choice=choice, max_tokens=1).usage.prompt_tokens
        for choice in ("auto", "none")
    )
    assert told > without + 20


def test_a_conversation_with_calls_goes_on(wild: Running) -> None:
    """The shape LangChain and the Agents SDK send back, null content included."""
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "now", "arguments": '{"zone": "UTC"}'},
    }
    talk = [
        *TALK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "name": "now", "content": "12:00"},
    ]
    answer = chat(wild, messages=talk, max_tokens=4)
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.usage.prompt_tokens > chat(wild, max_tokens=4).usage.prompt_tokens


@pytest.mark.slow  # its template is rendered in a process
def test_a_template_that_takes_tools_is_given_them() -> None:
    def make() -> Any:
        from dataclasses import replace

        served = served_model("char", context=4096, slots=2)
        return replace(served, template=chat_template(served.engine.codec, TEMPLATE))

    call = {"id": "c1", "function": {"name": "now", "arguments": '{"a": "<|endoftext|>"}'}}
    talk = [
        *TALK,
        {"role": "assistant", "content": "", "tool_calls": [call | {"type": "function"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
    ]
    with running(make) as server:
        url = f"{server.url}/tokenize"
        ids = httpx2.post(url, json={"messages": talk, "tools": TOOLS[1:]}).json()["tokens"]
        assert server.served.engine.codec.eos_id not in ids, "text of a call is no special token"
        back = httpx2.post(f"{server.url}/detokenize", json={"tokens": ids}).json()["prompt"]
        assert back.startswith('<|tools|>{"type": "function", "function": {"name": "now"')
        assert back.endswith(
            '<|user|>Weather?<|assistant|><call>now:{"a": "<|endoftext|>"}</call>'
            "<|tool|>12:00(c1)<|assistant|>"
        )
        choice = chat(server, messages=talk, tool_choice=NAMED).choices[0]
        Weather.model_validate_json(choice.message.tool_calls[0].function.arguments)


TEXTS = [
    ("Hello {x}", "Hello {x}", []),
    (f'{BEGIN}\n{{"name": "now", "arguments": {{}}}}\n{END}', "", [Call("now", "{}")]),
    (f'Let me see. {BEGIN}{{"name": "now"}}{END}', "Let me see. ", [Call("now", "{}")]),
    ('{"name": "now", "parameters": {"a": "é"}}', "", [Call("now", '{"a": "é"}')]),
    ('[{"name": "now"}, {"name": "now"}]', "", [Call("now", "{}")] * 2),
    ('{"name": "other", "arguments": {}}', '{"name": "other", "arguments": {}}', []),
    ('{"name": ["now"]}', '{"name": ["now"]}', []),
    (f"{BEGIN}no json{END}", f"{BEGIN}no json{END}", []),
    ("a <tool_ca", "a <tool_ca", []),
    ("", "", []),
    ("[" * 100_000, "[" * 100_000, []),
]


@settings(max_examples=40, deadline=None)
@given(which=st.sampled_from(TEXTS), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_calls_are_read_from_text_in_any_pieces(
    which: tuple[str, str, list[Call]], cuts: list[int]
) -> None:
    text, said, calls = which
    reader = CallReader(["now"], forced=False)
    edges = [0, *sorted(cuts), len(text)]
    out = "".join(reader.feed(text[a:b]) for a, b in itertools.pairwise(edges))
    rest, found = reader.finish()
    assert (out + rest, found) == (said, calls)


def streamed(text: str, cuts: list[int], *, forced: bool) -> tuple[str, list[Call], int]:
    """The text and the calls put together from deltas, and how many deltas there were."""
    reader = CallReader(["now"], forced=forced)
    said, deltas = "", []
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for begin, end in itertools.pairwise(edges):
        said += reader.feed(text[begin:end])
        deltas += reader.deltas()
    rest, last = reader.last_deltas()
    found: dict[int, Call] = {}
    for delta in (*deltas, *last):
        before = found.get(delta.index, Call("", ""))
        found[delta.index] = Call(before.name + delta.name, before.arguments + delta.arguments)
    return said + rest, list(found.values()), len(deltas)


@settings(max_examples=40, deadline=None)
@given(which=st.sampled_from(TEXTS), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_a_stream_has_the_same_calls(which: tuple[str, str, list[Call]], cuts: list[int]) -> None:
    text, said, calls = which
    assert streamed(text, cuts, forced=False)[:2] == (said, calls)


def test_a_call_is_streamed_when_it_is_complete() -> None:
    two = f'{BEGIN}{{"name": "now"}}{END}\n' * 2
    said, calls, early = streamed(f"So: {two} and so on", [len(two) // 2 + 6], forced=False)
    assert (said, calls, early) == ("So: ", [Call("now", "{}")] * 2, 4)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('a"\\{}[]é\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("k}", max_size=2), inner),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None)
@given(
    arguments=st.dictionaries(st.text('x"\\', max_size=3), JSON, max_size=3),
    indent=st.sampled_from([None, 1]),
    escaped=st.booleans(),
    every=st.integers(1, 7),
)
def test_arguments_of_a_forced_call_are_streamed_as_they_come(
    arguments: dict[str, Any], indent: int | None, escaped: bool, every: int
) -> None:
    call = {"name": "now", "arguments": arguments}
    text = json.dumps(call, indent=indent, ensure_ascii=escaped)
    said, calls, early = streamed(text, list(range(0, len(text), every)), forced=True)
    assert said == "" and [call.name for call in calls] == ["now"]
    assert json.loads(calls[0].arguments) == arguments
    assert early > 1
    cut = text[: len(text) // 2]
    _, calls, _ = streamed(cut, list(range(0, len(cut), every)), forced=True)
    assert all(cut.rstrip().endswith(call.arguments.rstrip()) for call in calls)


@pytest.mark.parametrize(
    ("options", "param", "told"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice", "one of"),
        ({"tool_choice": "sometimes"}, "tool_choice", "'required'"),
        ({"tool_choice": ["now"]}, "tool_choice", "'required'"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "no tools are given"),
        ({"tools": [TOOLS[1]] * 2}, "tools", "different names"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "'function'"),
        ({"tools": [tool("")]}, "tools[0].function.name", ""),
        (
            {"tools": [tool("f", {"type": "thing"})], "tool_choice": "required"},
            "tools",
            "thing",
        ),
    ],
)
def test_wrong_tools_are_told_by_name(wild: Running, options, param, told) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(wild, **options)
    assert caught.value.param == param
    assert told in caught.value.body["message"]
