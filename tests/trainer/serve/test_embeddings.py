"""Embeddings through OpenAI's client, and the endpoints that turn text into tokens and back."""

from __future__ import annotations

import httpx2
import openai
import pytest
import torch

from trainer.checkpoint.opening import OpenedModel

TEXTS = ["def f(x):", "é = 😀", "class A: pass\n" * 3]


def expected(opened: OpenedModel, text: str) -> torch.Tensor:
    """The mean of the states behind the output head, from the model itself."""
    with torch.no_grad():
        hidden = opened.model.body(torch.tensor([opened.tokenizer.encode_prompt(text)]))[0]
    return torch.nn.functional.normalize(hidden.mean(dim=0), dim=0)


def test_they_are_those_of_the_model(client: openai.OpenAI, opened: OpenedModel) -> None:
    """In base64, which the client asks for by itself, and as numbers."""
    for options in ({}, {"encoding_format": "float"}):
        answer = client.embeddings.create(model="tiny", input=TEXTS, **options)
        assert [entry.index for entry in answer.data] == [0, 1, 2]
        assert answer.model == "tiny"
        total = sum(len(opened.tokenizer.encode(text)) for text in TEXTS)
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == total
        for entry, text in zip(answer.data, TEXTS, strict=True):
            found = torch.tensor(entry.embedding)
            torch.testing.assert_close(found, expected(opened, text), atol=1e-4, rtol=1e-3)
            assert float(found.norm()) == pytest.approx(1, abs=1e-5)


def test_a_text_is_the_same_alone_and_as_ids(client: openai.OpenAI, opened: OpenedModel) -> None:
    ids = opened.tokenizer.encode(TEXTS[0])
    vectors = [
        client.embeddings.create(model="tiny", input=given).data[0].embedding
        for given in (TEXTS[0], ids, [ids, [1]], TEXTS, TEXTS[0])
    ]
    for vector in vectors:
        assert vector == pytest.approx(vectors[0], abs=1e-4)


def test_more_texts_than_places(client: openai.OpenAI, opened: OpenedModel) -> None:
    texts = [f"text {number}" for number in range(90)]
    data = client.embeddings.create(model="tiny", input=texts).data
    for place in (0, 44, 89):
        found = torch.tensor(data[place].embedding)
        torch.testing.assert_close(found, expected(opened, texts[place]), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "param", "told"),
    [
        ({"input": []}, "input", "a list of token ids"),
        ({"input": [1, "a"]}, "input", "a list of token ids"),
        ({"input": "a" * 65}, "input", "context is 64 tokens"),
        ({"input": "a" * 100_000}, "input", "many more"),
        ({"input": [100_257]}, "input", "no token 100257"),
        ({"input": ["a"] * 2049}, "input", "at most 2048 texts"),
        ({"input": "a", "dimensions": 7}, "dimensions", "have 32 dimensions, not 7"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "'float' or 'base64'"),
    ],
)
def test_wrong_requests_are_told_by_name(client: openai.OpenAI, options, param, told) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="tiny", **options)
    assert caught.value.param == param
    assert told in caught.value.body["message"]


def test_text_to_tokens_and_back(server, opened: OpenedModel) -> None:
    for text in ("", "def f", "é😀", "<|endoftext|>", "\n\n\x00"):
        answer = httpx2.post(f"{server.url}/tokenize", json={"model": "tiny", "prompt": text})
        found = answer.json()
        ids = opened.tokenizer.encode(text)
        assert (found["tokens"], found["count"]) == (ids, len(ids))
        assert found["max_model_len"] == 64
        assert found["token_strs"] is None
        back = httpx2.post(f"{server.url}/detokenize", json={"model": "tiny", "tokens": ids})
        assert back.json() == {"prompt": text}
    ask = {"prompt": "é<|endoftext|>", "return_token_strs": True, "parse_special": True}
    answer = httpx2.post(f"{server.url}/tokenize", json=ask).json()
    assert answer["token_strs"] == ["bytes:\\xc3", "bytes:\\xa9", "<|endoftext|>"]


def test_the_tokens_of_a_conversation_are_those_that_a_chat_counts(server, client) -> None:
    talk = [{"role": "system", "content": "S"}, {"role": "user", "content": "def f"}]
    found = httpx2.post(f"{server.url}/tokenize", json={"messages": talk}).json()
    chat = client.chat.completions.create(model="tiny", messages=talk, max_tokens=1)
    assert found["count"] == chat.usage.prompt_tokens
    ask = {"messages": talk, "add_generation_prompt": False}
    fewer = httpx2.post(f"{server.url}/tokenize", json=ask).json()
    assert found["count"] - fewer["count"] == len("Assistant:")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "prompt"),
        ("/tokenize", {"prompt": ["a"]}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": [300]}, "tokens"),
        ("/detokenize", {"tokens": ["a"]}, "tokens[0]"),
    ],
)
def test_wrong_tokens_are_told_by_name(server, path, body, param) -> None:
    answer = httpx2.post(server.url + path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_they_need_the_key(start) -> None:
    from trainer.serve.app import Settings

    server = start(Settings(key="k"))
    for path in ("/tokenize", "/detokenize", "/v1/embeddings"):
        assert httpx2.post(server.url + path, json={}).status_code == 401
