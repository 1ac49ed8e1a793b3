"""Answers that have to be JSON, JSON of a schema or text of a grammar, through OpenAI's client.

The models have random weights, so nothing but the grammar keeps their text in shape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

from tests.trainer.generate.sharp_models import sharp_model
from tests.trainer.serve.conftest import running
from trainer.checkpoint.opening import OpenedModel
from trainer.data.tokenizer_training import train_tokenizer
from trainer.serve.served import Served, chat_template
from trainer.serve.torch_engine import TorchEngine

TALK: Any = [{"role": "user", "content": "Who?"}]
SAMPLES = ['{"name": "é😀", "n": 12, "ok": true}', "red green {blue} null\n", "(1, [2, 3])\n"] * 9


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=6)
    age: int = Field(ge=0, le=150)
    colour: Literal["red", "grün", "blue"]
    tags: list[bool] = Field(max_length=2)


SCHEMA = Person.model_json_schema() | {"additionalProperties": False}


def served_model(kind: Literal["char", "bpe"], context: int = 512, slots: int = 8) -> Served:
    """A random model with that kind of tokenizer."""
    tokenizer = train_tokenizer(SAMPLES, kind=kind, vocab_size=300)
    model = sharp_model(vocab_size=320, max_seq_len=context)
    engine = TorchEngine(OpenedModel(model, tokenizer, Path("a")), slots=slots, threads=1)
    return Served(engine, "wild", chat_template(tokenizer, None), 0, "fp", max_new_tokens=400)


@pytest.fixture(scope="module", params=["char", "bpe"])
def wild(request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    """A client of such a model."""
    with running(lambda: served_model(request.param)) as server:
        yield server.client()


def chat(client: openai.OpenAI, seed: int, **options: Any) -> Any:
    """One choice."""
    options = {"temperature": 1.0, "seed": seed, "messages": TALK} | options
    return client.chat.completions.create(model="wild", **options).choices[0]


def by_schema(schema: Any, **more: Any) -> dict[str, Any]:
    """OpenAI's response format."""
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema} | more}


def test_json_mode_gives_an_object(wild: openai.OpenAI) -> None:
    ended = 0
    for seed in range(4):
        choice = chat(wild, seed, response_format={"type": "json_object"}, max_tokens=60)
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)
            ended += 1
        else:
            assert choice.finish_reason == "length"
            assert choice.message.content.startswith("{")
    assert (
        wild.completions.create(
            model="wild",
            prompt="a",
            max_tokens=60,
            extra_body={"response_format": {"type": "json_object"}},
        )
        .choices[0]
        .text.startswith("{")
    )


def test_a_schema_is_followed(wild: openai.OpenAI) -> None:
    """Whatever the settings, among free answers, whole and as a stream."""
    variants: list[dict[str, Any]] = [
        {},
        {"temperature": 0},
        {"temperature": 2, "top_p": 0.3},
        {"extra_body": {"top_k": 3, "ignore_eos": True}},
        {"frequency_penalty": 2, "presence_penalty": 2},
        {"logprobs": True, "top_logprobs": 2},
        {"response_format": {"type": "json_object", "schema": SCHEMA}},  # llama.cpp's way
    ]
    strict = {"response_format": by_schema(SCHEMA, strict=True)}
    with ThreadPoolExecutor(8) as pool:
        free = [pool.submit(chat, wild, seed, max_tokens=40) for seed in range(3)]
        asked = [
            pool.submit(chat, wild, seed, **(strict | more)) for seed, more in enumerate(variants)
        ]
        choices = [future.result() for future in asked]
        assert all(future.result().message.content for future in free)
    for seed, (more, choice) in enumerate(zip(variants, choices, strict=True)):
        assert choice.finish_reason == "stop"
        person = Person.model_validate_json(choice.message.content)
        assert list(json.loads(choice.message.content)) == list(SCHEMA["properties"])
        assert 0 <= person.age <= 150
        alone = chat(wild, seed, **({"response_format": by_schema(SCHEMA)} | more))
        Person.model_validate_json(alone.message.content)
    stream = wild.chat.completions.create(
        model="wild", messages=TALK, seed=1, stream=True, response_format=by_schema(SCHEMA)
    )
    pieces = [piece.choices[0] for piece in stream]
    Person.model_validate_json("".join(piece.delta.content or "" for piece in pieces))
    assert pieces[-1].finish_reason == "stop"


def test_the_clients_own_parser(wild: openai.OpenAI) -> None:
    """`parse` sends a strict schema made from the class; LangChain's json_schema does the same."""
    answer = wild.chat.completions.parse(
        model="wild", messages=TALK, seed=3, response_format=Person
    )
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_what_instructor_sends_for_json(wild: openai.OpenAI) -> None:
    system = f"Answer in JSON of this schema:\n{json.dumps({'type': 'object'})}"
    messages = [{"role": "system", "content": system}, *TALK]
    choice = chat(wild, 5, messages=messages, response_format={"type": "json_object"}, n=1)
    assert choice.message.content.startswith("{")


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({"regex": "(ab|é)+c{2,3}"}, r"(ab|é)+c{2,3}"),
        ({"choice": ["yes", "no", "über"]}, "yes|no|über"),
        ({"grammar": 'start: "<" /[0-9]{1,4}/ ">"'}, "<[0-9]{1,4}>"),
        ({"grammar": 'root ::= "<" [a-c] [a-c]? ">"'}, "<[a-c]{1,2}>"),
        ({"json": {"enum": [1, "two"]}}, '1|"two"'),
        ({"json": '{"const": true}'}, "true"),
    ],
)
def test_other_shapes(wild: openai.OpenAI, wanted: dict[str, Any], fits: str) -> None:
    """As vLLM takes them, under both of its names."""
    ((name, value),) = wanted.items()
    for body in ({"structured_outputs": wanted}, {f"guided_{name}": value}):
        choice = chat(wild, 1, extra_body=body, max_tokens=300)
        text = choice.message.content
        assert re.fullmatch(fits, text) or choice.finish_reason == "length"
        completion = wild.completions.create(
            model="wild", prompt="A", seed=4, max_tokens=300, extra_body=body
        ).choices[0]
        assert re.fullmatch(fits, completion.text) or completion.finish_reason == "length"


def test_a_limit_cuts_it_as_any_other_text(wild: openai.OpenAI) -> None:
    choice = chat(wild, 0, response_format=by_schema(SCHEMA), max_tokens=3)
    assert choice.finish_reason == "length"
    assert choice.message.content.startswith("{")


def test_choices_of_one_request_are_each_kept_to_it(wild: openai.OpenAI) -> None:
    answer = wild.chat.completions.create(
        model="wild", messages=TALK, n=5, seed=7, response_format=by_schema(SCHEMA)
    )
    texts = [choice.message.content for choice in answer.choices]
    assert all(Person.model_validate_json(text) for text in texts)
    assert len(set(texts)) > 1


def test_an_answer_is_the_same_alone_and_among_others(wild: openai.OpenAI) -> None:
    """Whatever the other requests are kept to: another schema, JSON, or nothing."""
    number = by_schema({"type": "integer", "minimum": 10, "maximum": 99999})
    formats: list[dict[str, Any]] = [by_schema(SCHEMA), number, {"type": "json_object"}, {}]
    asked: list[tuple[int, dict[str, Any]]] = [
        (seed, {"response_format": wanted, "max_tokens": 40} if wanted else {"max_tokens": 40})
        for seed, wanted in enumerate(formats * 2)
    ]
    alone = [chat(wild, seed, **options).message.content for seed, options in asked]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = [pool.submit(chat, wild, seed, **options) for seed, options in asked]
        assert [answer.result().message.content for answer in answers] == alone
    assert all(json.loads(alone[place]) >= 10 for place in (1, 5))


def nested(depth: int) -> dict[str, Any]:
    """A schema so deep."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("body", "param", "told"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type", "'json_schema'"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format",
            "'name' and 'schema'",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
            "Missing required",
        ),
        (
            {"response_format": by_schema({"type": "array", "uniqueItems": True})},
            "response_format",
            "uniqueItems",
        ),
        ({"response_format": by_schema({"type": "thing"})}, "response_format", "thing"),
        ({"response_format": by_schema({"$ref": "http://a/b"})}, "response_format", "http://a/b"),
        (
            {"response_format": by_schema({"type": "string", "pattern": "(a"})},
            "response_format",
            "unclosed group",
        ),
        ({"response_format": by_schema(nested(300))}, "response_format", "recursion limit"),
        ({"guided_regex": "(a"}, "guided_regex", "unclosed group"),
        ({"guided_json": "{"}, "guided_json", "EOF"),
        ({"structured_outputs": {"grammar": "start: nowhere"}}, "structured_outputs.grammar", ""),
        ({"guided_choice": []}, "guided_choice", "at least one"),
        ({"guided_choice": [1]}, "guided_choice", "a list of strings"),
        (
            {"guided_regex": "a", "response_format": {"type": "json_object"}},
            "guided_regex",
            "one format",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(wild, body, param, told) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(wild, 0, extra_body=body)
    assert caught.value.param == param
    assert told in caught.value.body["message"]
    assert chat(wild, 0, max_tokens=1)
