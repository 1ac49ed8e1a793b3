"""The API through OpenAI's own client: what it sends, what it makes of the answers."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.waiting import until

if TYPE_CHECKING:
    from trainer.checkpoint.opening import OpenedModel

TALK = [{"role": "user", "content": "def f"}]
GREEDY: dict[str, Any] = {"model": "tiny", "temperature": 0}


@pytest.fixture
def complete(client: openai.OpenAI) -> Callable[..., Any]:
    """A greedy completion, unless told otherwise."""

    def ask(prompt: Any = "def ", **options: Any) -> Any:
        return client.completions.create(prompt=prompt, **GREEDY | {"max_tokens": 12} | options)

    return ask


@pytest.fixture
def chat(client: openai.OpenAI, opened: OpenedModel) -> Callable[..., Any]:
    """A greedy answer without blanks, of which this model is fond, unless told otherwise."""
    blanks = {str(token): -100 for token in opened.tokenizer.encode(" \n")}

    def ask(messages: Any = TALK, **options: Any) -> Any:
        options = GREEDY | {"max_completion_tokens": 12, "logit_bias": blanks} | options
        return client.chat.completions.create(messages=messages, **options)

    return ask


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("tiny", "model", "train-monitor")
    assert client.models.retrieve("tiny") == model


def test_a_completion(complete) -> None:
    answer = complete()
    assert (answer.object, answer.model) == ("text_completion", "tiny")
    assert answer.id.startswith("cmpl-")
    assert answer.system_fingerprint.startswith("fp_")
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (4, 12, 16)


def test_greedy_text_is_that_of_trainer_generate(complete, run_cli, run_folder) -> None:
    output = run_cli(
        "generate", "--checkpoint", run_folder, "--prompt", "def ", "--max-new-tokens", 12,
        "--temperature", 0,
    )  # fmt: skip
    # The server of these tests logs to the same stdout.
    assert f"def {complete().choices[0].text}\n" in output.out


def test_a_chat_answer(chat) -> None:
    answer = chat()
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    # User: def f\n\nAssistant: in bytes
    assert answer.usage.prompt_tokens == len("User: def f\n\nAssistant:")


def test_streams_give_the_same_text(complete, chat) -> None:
    pieces = list(complete(stream=True))
    assert "".join(p.choices[0].text for p in pieces) == complete().choices[0].text
    assert len(pieces) > 5
    assert {p.id for p in pieces} == {pieces[0].id}
    assert [p.choices[0].finish_reason for p in pieces][-1] == "length"
    deltas = list(chat(stream=True))
    assert {p.object for p in deltas} == {"chat.completion.chunk"}
    assert deltas[0].choices[0].delta.role == "assistant"
    assert deltas[-1].choices[0].finish_reason == "length"
    assert deltas[-1].choices[0].delta.content is None
    text = "".join(p.choices[0].delta.content or "" for p in deltas)
    assert text == chat().choices[0].message.content


@pytest.mark.parametrize("endpoint", ["complete", "chat"])
def test_usage_comes_last_when_it_is_asked_for(request, endpoint: str) -> None:
    ask = request.getfixturevalue(endpoint)
    *pieces, last = ask(stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage == ask().usage
    assert all(piece.usage is None for piece in pieces)
    assert all(piece.choices for piece in ask(stream=True))


def test_the_stream_helper(client: openai.OpenAI, opened: OpenedModel) -> None:
    (letter, end) = opened.tokenizer.encode("QR")
    options = GREEDY | {"logit_bias": {str(letter): 100}, "messages": TALK, "max_tokens": 12}
    with client.chat.completions.stream(**options) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
    assert text == "Q" * 12
    options["logit_bias"] = {str(end): 100, str(letter): 99.5}
    with client.chat.completions.stream(**options | {"stop": "R"}) as stream:
        assert stream.get_final_completion().choices[0].finish_reason == "stop"


def test_several_choices_and_prompts_keep_their_places(complete) -> None:
    prompts = ["def ", "class ", "import "]
    answer = complete(prompts, n=2)
    assert [choice.index for choice in answer.choices] == list(range(6))
    alone = [complete(prompt).choices[0].text for prompt in prompts]
    assert [choice.text for choice in answer.choices] == [t for t in alone for _ in range(2)]
    assert answer.usage.prompt_tokens == sum(map(len, prompts))
    assert answer.usage.completion_tokens == 6 * 12
    texts = [""] * 6
    for piece in complete(prompts, n=2, stream=True):
        texts[piece.choices[0].index] += piece.choices[0].text
    assert texts == [choice.text for choice in answer.choices]


def test_more_prompts_than_places(complete, client) -> None:
    prompts = [f"{n:03} " for n in range(60)]
    answer = complete(prompts, max_tokens=2)
    assert len(answer.choices) == 60
    for place in (0, 31, 59):
        assert answer.choices[place].text == complete(prompts[place], max_tokens=2).choices[0].text


def test_prompts_of_token_ids(complete, opened: OpenedModel) -> None:
    ids = opened.tokenizer.encode("def ")
    assert complete(ids).choices[0].text == complete("def ").choices[0].text
    both = complete([ids, ids[:2]])
    assert next(choice.text for choice in both.choices) == complete(ids).choices[0].text
    assert both.usage.prompt_tokens == 6


def test_a_seed_repeats_and_choices_differ(complete, chat) -> None:
    for ask, text in (
        (complete, lambda choice: choice.text),
        (chat, lambda choice: choice.message.content),
    ):
        options = {"temperature": 1.5, "n": 3}
        first, again = (
            [text(choice) for choice in ask(seed=7, **options).choices] for _ in range(2)
        )
        assert first == again
        assert len(set(first)) == 3
        assert [text(choice) for choice in ask(seed=8, **options).choices] != first


def test_echo_gives_the_prompt_back(complete) -> None:
    plain = complete("naïve 😀 ").choices[0].text
    assert complete("naïve 😀 ", echo=True).choices[0].text == "naïve 😀 " + plain
    assert complete("naïve 😀 ", echo=True, max_tokens=0).choices[0].text == "naïve 😀 "
    pieces = list(complete("naïve 😀 ", echo=True, stream=True))
    assert pieces[0].choices[0].text.startswith("naïve 😀 ")
    assert "".join(p.choices[0].text for p in pieces) == "naïve 😀 " + plain


def test_no_prompt_begins_a_text(complete, opened: OpenedModel) -> None:
    assert complete("").choices[0].text == complete([opened.tokenizer.eos_id]).choices[0].text
    assert complete("").usage.prompt_tokens == 1


def test_stops(complete, chat) -> None:
    whole = complete(max_tokens=40).choices[0].text
    stop = whole[9:13]
    place = whole.find(stop)
    cut = complete(stop=stop, max_tokens=40).choices[0]
    assert (cut.text, cut.finish_reason) == (whole[:place], "stop")
    assert complete(stop=["\0never", stop], max_tokens=40).choices[0].text == whole[:place]
    pieces = list(complete(stop=[stop], max_tokens=40, stream=True))
    assert "".join(p.choices[0].text for p in pieces) == whole[:place]
    assert pieces[-1].choices[0].finish_reason == "stop"
    said = chat(max_completion_tokens=40).choices[0].message.content
    halted = chat(max_completion_tokens=40, stop=said[2:4]).choices[0]
    assert halted.message.content == said[: said.find(said[2:4])]
    assert halted.finish_reason == "stop"


def test_logprobs_of_a_completion_are_those_of_the_model(complete, opened: OpenedModel) -> None:
    import torch

    choice = complete("é = ", logprobs=3, echo=True).choices[0]
    found = choice.logprobs
    prompt = opened.tokenizer.encode("é = ")
    assert found.tokens[:3] == ["bytes:\\xc3", "bytes:\\xa9", " "]
    assert found.token_logprobs[0] is found.top_logprobs[0] is None
    assert found.text_offset[:5] == [0, 0, 1, 2, 3]
    assert len(found.tokens) == len(prompt) + 12
    ids = prompt + opened.tokenizer.encode(choice.text.removeprefix("é = "))
    with torch.no_grad():
        logits = opened.model(torch.tensor([ids]))[0]
    truth = logits.log_softmax(-1)
    for place, token in enumerate(ids[1:], 1):
        assert found.token_logprobs[place] == pytest.approx(
            float(truth[place - 1, token]), abs=2e-4
        )
        best = max(found.top_logprobs[place].values())
        assert best == pytest.approx(float(truth[place - 1].max()), abs=2e-4)
    assert all(3 <= len(table) <= 4 for table in found.top_logprobs[1:])
    # Greedy: each new token is the likeliest, by exactly the same number.
    for place in range(len(prompt), len(ids)):
        assert found.token_logprobs[place] == max(found.top_logprobs[place].values())


def test_logprobs_of_a_chat_have_bytes(chat) -> None:
    choice = chat(logprobs=True, top_logprobs=2, max_completion_tokens=8).choices[0]
    content = choice.logprobs.content
    assert len(content) == 8
    for entry in content:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 2
        assert entry.top_logprobs[0].logprob >= entry.logprob
    said = b"".join(bytes(entry.bytes) for entry in content).decode()
    assert said.lstrip() == choice.message.content
    streamed = [
        entry
        for piece in chat(logprobs=True, top_logprobs=2, max_completion_tokens=8, stream=True)
        if piece.choices[0].logprobs
        for entry in piece.choices[0].logprobs.content
    ]
    assert [e.token for e in streamed] == [e.token for e in content]
    assert chat(logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


def test_an_unlikely_token_is_in_its_own_table(complete, opened: OpenedModel) -> None:
    (letter,) = opened.tokenizer.encode("Q")
    found = complete(logit_bias={str(letter): 100}, logprobs=1).choices[0].logprobs
    for table, logprob in zip(found.top_logprobs, found.token_logprobs, strict=True):
        assert len(table) == 2
        assert table["Q"] == logprob < max(table.values())


def test_bias_and_penalties(complete, opened: OpenedModel) -> None:
    (letter,) = opened.tokenizer.encode("Q")
    assert complete(logit_bias={str(letter): 100}).choices[0].text == "Q" * 12
    steady = complete(logit_bias={str(letter): 12}, max_tokens=30).choices[0].text
    varied = complete(
        logit_bias={str(letter): 12}, frequency_penalty=2, presence_penalty=2, max_tokens=30
    )
    assert varied.choices[0].text.count("Q") < steady.count("Q")


def test_filters_of_other_servers(complete, client: openai.OpenAI, opened: OpenedModel) -> None:
    def sampled(**extra: Any) -> str:
        options = {"temperature": 2, "seed": 3, "max_tokens": 30, "extra_body": extra}
        return complete(**options).choices[0].text

    assert sampled(top_k=-1) == sampled(top_k=0) == sampled(min_p=0, repetition_penalty=1)
    assert sampled(min_p=1) == complete(max_tokens=30).choices[0].text
    blanks = {str(token): 40 for token in opened.tokenizer.encode(" ")}
    steady, varied = (
        complete(logit_bias=blanks, max_tokens=8, extra_body={"repetition_penalty": penalty})
        for penalty in (1.0, 10.0)
    )
    assert steady.choices[0].text == varied.choices[0].text, "a bias comes after the penalty"
    options = {"max_tokens": 30, "extra_body": {"repetition_penalty": 10.0}}
    text = complete("", **options).choices[0].text
    assert len(set(text)) > len(set(complete("", max_tokens=30).choices[0].text))


def test_what_lm_eval_asks(complete, opened: OpenedModel) -> None:
    """Its `local-completions`: lists of token ids, one new token, the prompt's scores."""
    import torch

    eos = opened.tokenizer.eos_id
    texts = ["import os\nimport", "x = 1\n", "class A:\n    pass\n"]
    prompts = [opened.tokenizer.encode(text) for text in texts]
    contexts = [5, 2, 8]
    # The end of a text must count as the one token too, so it is made the likeliest once.
    for bias in ({}, {str(eos): 100}):
        answer = complete(prompts, max_tokens=1, logprobs=1, echo=True, seed=1234, logit_bias=bias)
        for choice, ids, begin in zip(answer.choices, prompts, contexts, strict=True):
            assert len(choice.logprobs.token_logprobs) == len(ids) + 1
            summed = sum(choice.logprobs.token_logprobs[begin:-1])
            with torch.no_grad():
                logits = opened.model(torch.tensor([ids]))[0]
            truth = logits.log_softmax(-1)
            expected = sum(float(truth[i - 1, ids[i]]) for i in range(begin, len(ids)))
            assert summed == pytest.approx(expected, abs=1e-3)
            greedy = all(int(truth[i - 1].argmax()) == ids[i] for i in range(begin, len(ids)))
            tops = choice.logprobs.top_logprobs[begin:-1]
            values = choice.logprobs.token_logprobs[begin:-1]
            assert greedy == all(
                value == max(top.values()) for value, top in zip(values, tops, strict=True)
            )


def test_a_scored_text_ends_with_its_end(complete, opened: OpenedModel) -> None:
    bias = {str(opened.tokenizer.eos_id): 100}
    (choice,) = complete("ab", max_tokens=5, logprobs=0, echo=True, logit_bias=bias).choices
    assert (choice.text, choice.finish_reason) == ("ab", "stop")
    assert choice.logprobs.tokens == ["a", "b", "<|endoftext|>"]


def test_nulls_and_unknown_fields_are_nothing(client: openai.OpenAI, complete, chat) -> None:
    nulls = dict.fromkeys(
        ("logprobs", "seed", "stop", "n", "suffix", "best_of", "user", "logit_bias", "echo")
    )
    extra = {"extra_body": {"top_k": 0, "min_p": 0.1, "whatever": {"a": [1]}, "max_tokens": 12}}
    answer = client.completions.create(prompt="def ", **GREEDY, **nulls, **extra)
    assert answer.choices[0].text == complete().choices[0].text
    offered = chat(
        tools=[{"type": "function", "function": {"name": "f"}}],
        tool_choice="none",
        response_format={"type": "text"},
        max_tokens=None,
    )
    assert offered.choices[0].message.content == chat().choices[0].message.content


def test_messages_in_parts_and_old_and_new_names(chat) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": t} for t in ("def", " f")]}]
    assert chat(parts).choices[0] == chat().choices[0]
    system, developer = (
        chat([{"role": role, "content": "Be brief."}, *TALK]) for role in ("system", "developer")
    )
    assert system.choices == developer.choices
    assert system.usage.prompt_tokens > chat().usage.prompt_tokens


def test_the_server_decides_how_long_an_answer_gets(complete, chat) -> None:
    assert complete(max_tokens=None).usage.completion_tokens == 16
    whole = chat(max_completion_tokens=None, logit_bias={"257": 0})
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage.total_tokens <= 64 + 1
    assert (
        complete(max_tokens=1000, extra_body={"ignore_eos": True}).choices[0].finish_reason
        == "length"
    )


@pytest.mark.parametrize(
    ("options", "param", "told"),
    [
        ({"max_tokens": "many"}, "max_tokens", "expected an integer, but got a string"),
        ({"max_tokens": -1}, "max_tokens", "a value >= 0, but got -1"),
        ({"max_tokens": 5000}, "max_tokens", "generates at most 1000"),
        ({"temperature": 2.5}, "temperature", "a value <= 2"),
        ({"extra_body": {"top_k": -2}}, "top_k", "a value >= -1"),
        ({"extra_body": {"min_p": 1.1}}, "min_p", "a value <= 1"),
        ({"extra_body": {"repetition_penalty": 0}}, "repetition_penalty", "a value > 0"),
        ({"extra_body": {"parse_special": 1}}, "parse_special", "expected a boolean"),
        ({"top_p": True}, "top_p", "expected a number, but got a boolean"),
        ({"n": 0}, "n", "a value >= 1"),
        ({"n": 129}, "n", "a value <= 128"),
        ({"prompt": ["a"] * 65, "n": 2}, "n", "at most 128 choices"),
        ({"stop": [1]}, "stop", "a string or a list of strings"),
        ({"stop": ["a"] * 17}, "stop", "at most 16"),
        ({"logprobs": 21}, "logprobs", "a value <= 20"),
        ({"logit_bias": {"a": 1}}, "logit_bias", "token ids"),
        ({"logit_bias": {"1": 101}}, "logit_bias", "from -100 to 100"),
        ({"logit_bias": {"9999": 1}}, "logit_bias", "there is no token 9999"),
        ({"prompt": [1, "a"]}, "prompt", "a list of token ids"),
        ({"prompt": []}, "prompt", "a list of token ids"),
        ({"prompt": [[]]}, "prompt", "a list of token ids"),
        ({"prompt": [999]}, "prompt", "no token 999, the vocabulary has 258"),
        ({"prompt": [-1]}, "prompt", "no token -1"),
        ({"prompt": "a" * 65}, "prompt", "context is 64 tokens and the prompt has 65"),
        ({"seed": 1.5}, "seed", "expected an integer, but got a number"),
        ({"suffix": "b"}, "suffix", "cannot fill in the middle"),
        ({"best_of": 2}, "best_of", "the value of n"),
        ({"stream": "yes"}, "stream", "expected a boolean"),
        ({"stream_options": 1}, "stream_options", "expected an object"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_wrong_settings_are_told_by_name(complete, options, param, told, stream) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        complete(**{"stream": stream} | options)
    assert caught.value.status_code == 400
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert told in caught.value.body["message"]


@pytest.mark.parametrize(
    ("options", "param", "told"),
    [
        ({"messages": []}, "messages", "at least 1 items"),
        ({"messages": "hi"}, "messages", "expected an array"),
        ({"messages": [{"role": "wizard", "content": "a"}]}, "messages[0].role", "'system', "),
        ({"messages": [{"content": "a"}]}, "messages[0].role", "Missing required"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "text parts"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content",
            "only reads text",
        ),
        ({"messages": [*TALK] * 1025}, "messages", "at most 1024"),
        ({"messages": [{"role": "user", "content": "a" * 99}]}, "messages", "context is 64"),
        ({"top_logprobs": 2}, "top_logprobs", "logprobs to be true"),
        ({"tool_choice": "required"}, "tool_choice", "no tools are given"),
        ({"max_completion_tokens": 5000}, "max_completion_tokens", "at most 1000"),
    ],
)
def test_wrong_chats_are_told_by_name(chat, options, param, told) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(**options)
    assert caught.value.param == param
    assert told in caught.value.body["message"]


def test_codes(complete, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        complete(model="gpt-9")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("a/b")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        complete("a" * 100)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.images.generate(model="tiny", prompt="a")


def test_the_raw_response(client: openai.OpenAI) -> None:
    raw = client.completions.with_raw_response.create(prompt="a", max_tokens=1, **GREEDY)
    assert raw.status_code == 200
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse().choices[0].index == 0


def test_a_failing_model_is_a_server_error_that_clients_try_again(start) -> None:
    from shared.errors import RunError

    server = start(plain=True)
    server.engine.failure = RunError("The model's output is not finite.")
    with pytest.raises(openai.InternalServerError, match="not finite"):
        server.client(max_retries=1).completions.create(prompt="a", **GREEDY)
    assert server.engine.cancelled == 2, "it was asked a second time"
    with pytest.raises(openai.InternalServerError, match="not finite"):
        server.client().completions.create(prompt="a", stream=True, echo=True, **GREEDY)


def test_a_failure_in_the_middle_of_a_stream_ends_it_with_an_error(start) -> None:
    from shared.errors import RunError

    server = start(plain=True)
    with server.client().completions.create(
        prompt="a", stream=True, max_tokens=60, **GREEDY
    ) as stream:
        server.run(lambda: setattr(server.engine, "held", asyncio.Event()))
        next(stream)
        server.engine.failure = RunError("The model's output is not finite.")
        server.run(server.engine.held.set)
        with pytest.raises(openai.APIError, match="not finite"):
            list(stream)


def test_a_full_queue_is_a_rate_limit(start) -> None:
    server = start(plain=True, places=1, queue=1)
    server.run(lambda: setattr(server.engine, "held", asyncio.Event()))
    client = server.client()
    with ThreadPoolExecutor(2) as pool:
        ask = partial(client.completions.create, prompt="a", max_tokens=2, **GREEDY)
        asked = [pool.submit(ask) for _ in range(2)]
        until(lambda: server.engine.running == server.engine.waiting == 1)
        for more in ({}, {"stream": True}, {"n": 3}):
            with pytest.raises(openai.RateLimitError) as caught:
                ask(**more)
            assert caught.value.code == "rate_limit_exceeded"
            assert caught.value.response.headers["retry-after"] == "1"
        server.run(server.engine.held.set)
        assert all(answer.result().choices[0].text for answer in asked)


def test_a_timeout_of_the_client_frees_its_place(start) -> None:
    server = start(plain=True)
    server.run(lambda: setattr(server.engine, "held", asyncio.Event()))
    for patience in (0.3, 3, 30):  # on a busy machine a request may take a while to reach the model
        with pytest.raises(openai.APITimeoutError):
            server.client(timeout=patience).completions.create(prompt="a", **GREEDY)
        if server.engine.running + server.engine.cancelled:
            break
    until(lambda: server.engine.cancelled and not server.engine.running)


def test_probabilities_sum_to_one(complete) -> None:
    table = complete(logprobs=20, max_tokens=1, temperature=1).choices[0].logprobs.top_logprobs[0]
    assert 0.5 < sum(map(math.exp, table.values())) <= 1.0001
    assert all(a >= b for a, b in itertools.pairwise(list(table.values())[:20]))
