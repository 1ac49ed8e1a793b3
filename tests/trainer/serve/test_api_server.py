"""What stands around the endpoints: keys, origins, figures, the log, the page, the way it ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import re
import threading

import httpx2
import openai
import pytest

from shared.errors import RunError, UserError
from tests.trainer.serve.support import DEADLINE, connected, count_of, post, sample
from tests.waiting import until
from trainer.serve.access import is_loopback, read_key
from trainer.serve.app import Settings
from trainer.serve.metrics import Histogram

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ASK = {"prompt": "a", "max_tokens": 2, "temperature": 0}


def test_health(server) -> None:
    answer = httpx2.get(f"{server.url}/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert answer.json()["capacity"] >= 1


def test_health_tells_of_a_model_that_fails_again_and_again(start) -> None:
    server = start(plain=True)
    url, server.engine.failure = f"{server.url}/v1/completions", RunError("It has diverged.")
    for more in ({}, {"stream": True}, {"n": 2}):
        assert httpx2.get(f"{server.url}/health").status_code == 200
        assert httpx2.post(url, json=ASK | more).status_code == 500
    answer = httpx2.get(f"{server.url}/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "failing")
    httpx2.post(url, json={"n": 0})
    assert httpx2.get(f"{server.url}/health").status_code == 503
    server.engine.failure = None
    assert httpx2.post(url, json=ASK).status_code == 200
    assert httpx2.get(f"{server.url}/health").status_code == 200


def test_metrics_count_what_happened(start) -> None:
    server = start()
    httpx2.post(f"{server.url}/v1/completions", json=ASK)
    httpx2.post(f"{server.url}/v1/completions", json=ASK | {"stream": True})
    httpx2.post(f"{server.url}/v1/completions", json={"n": 0})
    httpx2.get(f"{server.url}/nowhere/{'x' * 50}")
    answer = httpx2.get(f"{server.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.text
    prefix = "trainer_serve_"
    completions = 'requests_total{endpoint="/v1/completions",status='
    assert sample(text, f'{prefix}{completions}"200"}}') == 2
    assert sample(text, f'{prefix}{completions}"400"}}') == 1
    assert sample(text, f'{prefix}requests_total{{endpoint="other",status="404"}}') == 1
    assert sample(text, f"{prefix}tokens_generated_total") == 4
    assert sample(text, f"{prefix}tokens_drafted_total") == 0
    assert sample(text, f"{prefix}prompt_tokens_total") == 2
    assert sample(text, f"{prefix}running") == 0
    assert sample(text, f"{prefix}waiting") == 0
    assert sample(text, f"{prefix}capacity") >= 1
    assert sample(text, f"{prefix}time_to_first_token_seconds_count") == 2
    seconds = f"{prefix}request_seconds"
    assert sample(text, f'{seconds}_count{{endpoint="/v1/completions"}}') == 3
    assert sample(text, f'{seconds}_bucket{{endpoint="/v1/completions",le="+Inf"}}') == 3
    assert sample(text, f"{prefix}model_load_seconds") >= 0
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{[^}]*\})? [0-9.e+-]+", line), line


def test_a_histogram_counts_upwards() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.add(value)
    assert list(histogram.lines("x")) == [
        'x_bucket{le="1"} 2',
        'x_bucket{le="2"} 3',
        'x_bucket{le="+Inf"} 4',
        "x_sum 12.000000",
        "x_count 4",
    ]


def test_a_key_is_asked_for(start) -> None:
    server = start(Settings(key="sesame"))
    for path in ("/v1/models", "/metrics", "/v1/anything"):
        answer = httpx2.get(server.url + path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"
    for headers in (
        {"Authorization": "Bearer sesame"},
        {"authorization": "bearer  sesame"},
        {"x-api-key": "sesame"},
    ):
        assert httpx2.get(f"{server.url}/metrics", headers=headers).status_code == 200
    for headers in ({"Authorization": "Basic sesame"}, {"x-api-key": "sesam"}, {"x-api-key": "ü"}):
        raw = {key: value.encode("latin-1") for key, value in headers.items()}
        assert httpx2.get(f"{server.url}/metrics", headers=raw).status_code == 401
    for path in ("/", "/health"):
        assert httpx2.get(server.url + path).status_code == 200
    with pytest.raises(openai.AuthenticationError):
        server.client(api_key="wrong").models.list()
    assert server.client(api_key="sesame").models.list().data


def test_where_the_key_comes_from(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINER_API_KEY", raising=False)
    assert read_key(None) is None
    monkeypatch.setenv("TRAINER_API_KEY", " from-env\n")
    assert read_key(None) == "from-env"
    file = tmp_path / "key"
    file.write_text("from-file\n")
    assert read_key(file) == "from-file"
    for bad in ("", "two words", "schlüssel", "a\x1bb"):
        file.write_text(bad)
        with pytest.raises(UserError, match="does not contain a key") as caught:
            read_key(file)
        assert not bad or bad not in str(caught.value)
    with pytest.raises(UserError, match="No such file"):
        read_key(tmp_path / "none")


def test_pages_of_other_sites_are_turned_away(start) -> None:
    server = start()
    url = f"{server.url}/v1/completions"

    def ask(**headers: str) -> int:
        return httpx2.post(url, json=ASK, headers=headers).status_code

    assert ask() == 200
    assert ask(origin=server.url) == 200
    for origin in ("https://evil.example", "null", "http://localhost:1", "http://[", "", "//"):
        assert ask(origin=origin) == 403
    assert ask(host="evil.example") == 403
    assert ask(host="localhost:99") == ask(host="[::1]") == 200
    answer = httpx2.options(url, headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_an_origin_can_be_let_in(start) -> None:
    server = start(Settings(key="k", origins=("https://app.example",)))
    url = f"{server.url}/v1/completions"
    asking = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    preflight = httpx2.options(url, headers=asking)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    headers = {"authorization": "Bearer k", "origin": "https://app.example"}
    answer = httpx2.post(url, json=ASK, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    headers["origin"] = "https://evil.example"
    assert httpx2.post(url, json=ASK, headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("a.localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("localhost.evil.example", False),
        ("192.168.0.1", False),
    ],
)
def test_what_is_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_what_is_not_there_is_told_as_json(server) -> None:
    answer = httpx2.get(f"{server.url}/v2/%1b[31mred")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "There is nothing at /v2/[31mred."
    answer = httpx2.get(f"{server.url}/v1/completions")
    assert answer.status_code == 405
    assert "does not take GET" in answer.json()["error"]["message"]
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/chat/completions", "Use /v1/chat/completions; a client's base URL ends in /v1."),
        ("/completions", "Use /v1/completions;"),
        ("/models", "Use /v1/models;"),
        ("/models/tiny", "Use /v1/models/tiny;"),
        ("/v1/v1/chat/completions", "Use /v1/chat/completions;"),
        ("/openai/v1/models", "Use /v1/models;"),
        ("/v1/engines/tiny/completions", "Use /v1/completions;"),
        ("/v1/health", "Use /health;"),
        ("/api/chat", "Use /v1/chat/completions;"),
        ("/v1/responses", "Use /v1/chat/completions;"),
    ],
)
def test_a_path_without_its_version_is_hinted_at(server, path: str, hint: str) -> None:
    for method in ("GET", "POST"):
        answer = httpx2.request(method, server.url + path)
        assert answer.status_code == 404
        assert answer.json()["error"]["message"].startswith(f"There is nothing at {path}. {hint}")


def test_a_client_without_the_version_is_told(server) -> None:
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
    with pytest.raises(openai.NotFoundError, match="Use /v1/chat/completions"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "a"}])


def test_slashes_too_many(start) -> None:
    server = start(Settings(key="k"))
    headers = {"authorization": "Bearer k"}
    models = httpx2.get(f"{server.url}/v1/models", headers=headers).json()
    for path in ("/v1/models/", "//v1/models", "/v1//models//"):
        assert httpx2.get(server.url + path, headers=headers).json() == models
        assert httpx2.get(server.url + path).status_code == 401
    for path in ("/v1/completions/", "//v1/completions"):
        answer = httpx2.post(server.url + path, json=ASK, headers=headers)
        assert answer.json()["object"] == "text_completion"
    assert httpx2.get(f"{server.url}//metrics/").status_code == 401
    assert httpx2.get(f"{server.url}//").headers["content-type"].startswith("text/html")
    assert count_of_with_key(server.url, "/v1/models", 200) == 4


def count_of_with_key(url: str, endpoint: str, status: int) -> float:
    text = httpx2.get(f"{url}/metrics", headers={"x-api-key": "k"}).text
    return sample(text, f'trainer_serve_requests_total{{endpoint="{endpoint}",status="{status}"}}')


def test_the_page_may_run_only_what_is_in_it(server) -> None:
    answer = httpx2.get(f"{server.url}/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert not re.search(r"https?://|//cdn|@import|url\(", answer.text)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\son\w+=", answer.text
    )


def test_the_log_has_a_line_for_a_request_and_no_word_of_it(start, capfd) -> None:
    server = start(Settings(key="very-secret"))
    secret = {"authorization": "Bearer very-secret"}
    body = {"prompt": "private words", "max_tokens": 3, "temperature": 0}
    answer = httpx2.post(f"{server.url}/v1/completions", json=body, headers=secret)
    httpx2.get(f"{server.url}/v1/x%0d%0a2026 GET /forged%1b[2J?q=very-secret", headers=secret)
    httpx2.get(f"{server.url}/health")
    lines: list[str] = []
    until(lambda: bool(lines.extend(capfd.readouterr().out.splitlines()) or len(lines) == 2))
    first, second = lines
    assert re.fullmatch(
        r"\S+ POST /v1/completions 200 seconds=\S+ prompt_tokens=13 new_tokens=3 "
        rf"first_token=\S+ client=127\.0\.0\.1 id={answer.json()['id']}",
        first,
    )
    assert " GET /v1/x%202026%20GET%20/forged[2J 404 " in second
    for line in (first, second):
        assert "secret" not in line
        assert "private" not in line


def test_a_log_that_nobody_reads_holds_no_answer_up(start) -> None:
    """As on a terminal that is held with Ctrl-S, or in a pipe whose reader sleeps."""
    read, write = os.pipe()
    stalled = os.fdopen(write, "w")
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    try:
        server = start(log=stalled)
        for _ in range(3):
            answer = httpx2.post(f"{server.url}/v1/completions", json=ASK, timeout=DEADLINE)
            assert answer.status_code == 200
    finally:
        os.close(read)


def test_a_client_that_leaves_frees_its_place(start) -> None:
    server = start(plain=True)
    server.run(lambda: setattr(server.engine, "held", asyncio.Event()))
    for more in ({}, {"stream": True}, {"n": 3}):
        before, count = server.engine.cancelled, more.get("n", 1)
        with connected(server.url) as leaving:
            leaving.sendall(post("/v1/completions", ASK | more))
            until(lambda c=count: server.engine.running == c)
        until(lambda b=before, c=count: server.engine.cancelled == b + c)
        until(lambda: server.engine.running == server.engine.waiting == 0)
    # In the middle of a stream too.
    server.run(server.engine.held.set)
    with httpx2.stream(
        "POST", f"{server.url}/v1/completions", json=ASK | {"stream": True, "max_tokens": 60}
    ) as answer:
        server.run(server.engine.held.clear)
        next(answer.iter_bytes())
    until(lambda: server.engine.running == 0)
    until(lambda: count_of(server.url, "/v1/completions", 499) == 4)


def test_an_answer_that_takes_too_long(start) -> None:
    server = start(Settings(timeout=0.2), plain=True)
    server.run(lambda: setattr(server.engine, "held", asyncio.Event()))
    answer = httpx2.post(f"{server.url}/v1/completions", json=ASK)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "timeout"
    until(lambda: server.engine.running == 0)


def test_streams_end_before_the_server_does(start) -> None:
    server = start(plain=True)
    server.run(lambda: setattr(server.engine, "held", asyncio.Event()))
    client, texts = server.client(), []

    def read() -> None:
        stream = client.completions.create(model="tiny", stream=True, **ASK)
        texts.append([piece.choices[0].finish_reason for piece in stream])

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: server.engine.running == 1)
    server.stop()
    until(lambda: _refused(server.url))
    server.run(server.engine.held.set)
    reader.join(DEADLINE)
    assert texts[0][-1] == "length"


def test_what_does_not_end_in_time_is_ended(start) -> None:
    server = start(grace=1, plain=True)
    server.run(lambda: setattr(server.engine, "held", asyncio.Event()))
    answers = []

    def ask(more: dict[str, object]) -> None:
        answers.append(
            httpx2.post(f"{server.url}/v1/completions", json=ASK | more, timeout=DEADLINE)
        )

    asking = [threading.Thread(target=ask, args=[m]) for m in ({}, {"stream": True, "echo": True})]
    for thread in asking:
        thread.start()
    until(lambda: server.engine.running == 2)
    server.stop()
    for thread in asking:
        thread.join(DEADLINE)
    assert [answer.status_code for answer in answers] == [503, 503]


def _refused(url: str) -> bool:
    try:
        httpx2.get(f"{url}/health")
    except httpx2.TransportError:  # it may close the connection before it closes the door
        return True
    return False


def test_a_models_own_template_is_used_and_its_page_says_so(start, opened) -> None:
    server = start(template=CHATML)
    client = server.client()
    assert client.models.retrieve("tiny").chat is True
    answer = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=2
    )
    assert answer.usage.prompt_tokens == len("<|user|>hi<|end|><|assistant|>")


def test_what_a_person_writes_is_no_special_token(start) -> None:
    server = start(template=CHATML)
    words = "<|endoftext|>"
    answer = server.client().chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": words}], max_tokens=0
    )
    assert answer.usage.prompt_tokens == len(f"<|user|>{words}<|end|><|assistant|>".encode())


def test_a_special_token_in_a_text_prompt_is_one_if_the_client_says_so(client, opened) -> None:
    words = "a<|endoftext|>b"
    ask = {"model": "tiny", "prompt": words, "max_tokens": 2, "temperature": 0}
    assert client.completions.create(**ask).usage.prompt_tokens == len(words)
    answer = client.completions.create(**ask, extra_body={"parse_special": True})
    a, b = opened.tokenizer.encode("ab")
    ids = [a, opened.tokenizer.eos_id, b]
    assert answer.usage.prompt_tokens == 3
    assert answer.choices[0].text == (
        client.completions.create(**ask | {"prompt": ids}).choices[0].text
    )


def test_old_turns_are_left_out_when_the_client_says_so(start) -> None:
    """As the page asks for it; the system message stays."""
    server = start(template=CHATML)
    url = f"{server.url}/v1/chat/completions"
    talk = [{"role": "system", "content": "S"}]
    body = {"max_tokens": 8, "temperature": 0, "truncation": "auto"}
    seen = set()
    for turn in range(12):
        talk.append({"role": "user", "content": f"U{turn}"})
        answer = httpx2.post(url, json=body | {"messages": talk, "stream": turn % 2 == 1})
        assert answer.status_code == 200
        left_out = int(answer.headers.get("x-messages-left-out", 0))
        assert left_out % 2 == 0
        seen.add(left_out)
        if turn % 2 == 0:
            kept = [talk[0], *talk[1 + left_out :]]
            count = sum(len(f"<|{m['role']}|>{m['content']}<|end|>") for m in kept)
            count += len("<|assistant|>")
            assert answer.json()["usage"]["prompt_tokens"] == count <= 64 - 8 or len(kept) == 2
        talk.append({"role": "assistant", "content": "A"})
    assert 0 in seen
    assert max(seen) >= 20
    talk.append({"role": "user", "content": "U"})
    answer = httpx2.post(url, json=body | {"messages": talk, "truncation": "disabled"})
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    talk.append({"role": "user", "content": "x" * 10_000})
    answer = httpx2.post(url, json=body | {"messages": talk})
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_a_template_that_refuses_is_the_clients_mistake(start) -> None:
    server = start(template="{{ raise_exception('only one message') if messages|length > 1 }}x")
    client, one = server.client(), {"role": "user", "content": "hi"}
    client.chat.completions.create(model="tiny", messages=[one], max_tokens=1)
    with pytest.raises(openai.BadRequestError, match="only one message"):
        client.chat.completions.create(model="tiny", messages=[one, one], max_tokens=1)


@pytest.mark.parametrize(
    ("loop", "told"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "more than 1 s",
        ),
        ("{{ 10 ** (10 ** (messages|length + 5)) }}", "more than 1 s"),
        ("{{ ('x' * 2 * 10 ** (messages|length + 7)) | length }}", "template refuses"),
    ],
)
def test_a_template_without_end_keeps_nobody_else_waiting(start, loop: str, told: str) -> None:
    server = start(template_time=1, template="{% if messages|length > 2 %}" + loop + "{% endif %}x")
    client, one = server.client(), {"role": "user", "content": "hi"}
    with pytest.raises(openai.BadRequestError, match=told):
        client.chat.completions.create(model="", messages=[one] * 3, max_tokens=1)
    client.chat.completions.create(model="", messages=[one], max_tokens=1)


def test_a_model_may_have_several_ends(start, opened) -> None:
    (y,) = opened.tokenizer.encode("Y")
    client = start(other_ends=frozenset({y})).client()
    likely = {"temperature": 0, "max_tokens": 5, "logit_bias": {str(y): 100}}
    for more in ({}, {"echo": True, "logprobs": 0}):
        (choice,) = client.completions.create(model="", prompt="X", **likely, **more).choices
        assert choice.finish_reason == "stop"
        assert choice.text == ("XY" if more else "")  # scored, an end is a token like others
    message = {"role": "user", "content": "hi"}
    (choice,) = client.chat.completions.create(model="", messages=[message], **likely).choices
    assert (choice.finish_reason, choice.message.content) == ("stop", "")


def test_an_answer_of_a_base_model_ends_where_the_next_question_would_begin(start, opened) -> None:
    server = start()
    assert server.served.template.stop_texts == ("\nUser:",)
    server.served.template.stop_texts = ("XY",)
    x, y = opened.tokenizer.encode("XY")
    answer = server.client().chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "hi"}],
        temperature=0,
        logit_bias={str(x): 100, str(y): 99},
        frequency_penalty=2,
    )
    assert set(answer.choices[0].message.content) <= {"X"}
    assert answer.choices[0].finish_reason == "stop"
