"""Requests nobody should send: the server refuses them in a sentence and goes on answering."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainer.serve.support import DEADLINE, connected, count_of, post, received
from tests.waiting import until
from trainer.serve.access import MAX_HEADERS
from trainer.serve.app import Settings
from trainer.serve.limits import Limits

PATHS = ("/v1/completions", "/v1/chat/completions")


@pytest.fixture(scope="module")
def http(server) -> Iterator[httpx2.Client]:
    """A plain client of the server that all tests share."""
    with httpx2.Client(base_url=server.url, timeout=DEADLINE) as client:
        yield client


def said_nothing_yet(connection: socket.socket) -> bool:
    """Whether the other side keeps the connection and is silent."""
    connection.setblocking(False)
    try:
        connection.recv(1)
    except BlockingIOError:
        return True
    return False


def healthy(url: str) -> bool:
    """Whether the server answers."""
    return httpx2.get(f"{url}/health", timeout=DEADLINE).status_code == 200


# Anything as a value, and anything as a body

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
SENSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "prompt": st.text(max_size=12)
    | st.lists(st.integers(-1, 260), max_size=5)
    | st.lists(st.text(max_size=5), max_size=3)
    | st.lists(st.lists(st.integers(0, 257), max_size=3), max_size=3),
    "messages": st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "system", "assistant", "tool"])},
            optional={"content": st.text(max_size=9) | JSON},
        ),
        max_size=3,
    ),
    "model": st.sampled_from(["tiny", ""]),
    "max_tokens": st.integers(-1, 6),
    "max_completion_tokens": st.integers(-1, 6),
    "temperature": st.floats(-0.1, 2.1),
    "top_p": st.floats(0, 1),
    "top_k": st.integers(-1, 400) | st.just(2**62),
    "min_p": st.floats(0, 1),
    "repetition_penalty": st.floats(0.1, 10),
    "parse_special": st.booleans(),
    "truncation": st.sampled_from(["auto", "disabled"]),
    "n": st.integers(1, 3),
    "stop": st.text(max_size=2) | st.lists(st.text(max_size=2), max_size=3),
    "seed": st.integers(-(2**63), 2**63),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "logit_bias": st.dictionaries(
        st.sampled_from(["1", "257", "258", "x"]), st.integers(-101, 101)
    ),
    "logprobs": st.booleans() | st.integers(0, 20),
    "top_logprobs": st.integers(0, 20),
    "echo": st.booleans(),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({}, optional={"include_usage": st.booleans()}),
    "ignore_eos": st.booleans(),
    "response_format": st.sampled_from(
        [
            {"type": "text"},
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": [1, "é"]}}},
        ]
    ),
    "guided_regex": st.sampled_from(["a+", "(", "", "é?"]),
    "tools": st.lists(
        st.fixed_dictionaries(
            {"function": st.fixed_dictionaries({"name": st.sampled_from("fg")})},
            optional={"type": st.just("function"), "parameters": JSON},
        ),
        max_size=2,
    ),
    "tool_choice": st.sampled_from(["auto", "none", "required", "x"])
    | st.just({"type": "function", "function": {"name": "f"}}),
}
FIELDS = st.fixed_dictionaries(
    {"max_tokens": SENSIBLE["max_tokens"]},
    optional={key: value | st.none() for key, value in SENSIBLE.items() if key != "max_tokens"},
)


def check(answer: httpx2.Response) -> None:
    """An answer or an error object; never a failure of the server."""
    assert answer.status_code in (200, 400, 404), answer.text
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error["message"]
        assert set(error) == {"message", "type", "param", "code"}
    elif answer.headers["content-type"].startswith("text/event-stream"):
        *events, last = answer.text.removesuffix("\n\n").split("\n\n")
        assert last == "data: [DONE]"
        assert all(json.loads(event.removeprefix("data: "))["object"] for event in events)
    else:
        assert answer.json()["choices"]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(PATHS), fields=FIELDS)
def test_any_settings_are_answered(http: httpx2.Client, path: str, fields: dict[str, Any]) -> None:
    check(http.post(path, json=fields))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(PATHS), spoilt=st.dictionaries(st.sampled_from([*SENSIBLE]), JSON))
def test_any_type_anywhere_is_answered(http: httpx2.Client, path: str, spoilt: Any) -> None:
    sound = {"prompt": "a", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
    check(http.post(path, json=sound | spoilt))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(PATHS), raw=st.binary(max_size=40) | JSON.map(json.dumps).map(str.encode)
)
def test_any_body_is_answered(http: httpx2.Client, path: str, raw: bytes) -> None:
    answer = http.post(path, content=raw)
    assert answer.status_code in (200, 400)
    assert ("error" in answer.json()) == (answer.status_code == 400)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"NaN",
        b'{"prompt": "\xff"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": 1e999}',
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"prompt": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"max_tokens": ' + b"9" * 5000 + b"}",
    ],
    ids=range(12),
)
def test_what_is_no_request_is_refused(http: httpx2.Client, raw: bytes) -> None:
    answer = http.post("/v1/completions", content=raw)
    assert answer.status_code == 400
    assert len(answer.json()["error"]["message"]) < 500


def test_hostile_text_is_only_text(http: httpx2.Client) -> None:
    words = "\x00\x1b[2J\u202e<script>\ufeff%s{{ 7*7 }}{% for %}"
    message = {"role": "user", "content": words}
    answer = http.post("/v1/chat/completions", json={"messages": [message], "max_tokens": 2})
    assert answer.status_code == 200
    echo = http.post("/v1/completions", json={"prompt": words, "echo": True, "max_tokens": 0})
    assert echo.json()["choices"][0]["text"] == words
    error = http.post("/v1/completions", json={"model": words}).json()["error"]["message"]
    assert "\x1b" not in error


# Size and patience


class WatchedCodec:
    """The model's tokenizer; it remembers the length of the longest text it had to encode."""

    def __init__(self, codec: Any) -> None:
        self._codec = codec
        self.longest = 0

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        self.longest = max(self.longest, len(text))
        return self._codec.encode(text, allow_special)

    def encode_prompt(self, text: str, allow_special: bool = False) -> list[int]:
        self.longest = max(self.longest, len(text))
        return self._codec.encode_prompt(text, allow_special)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)


def test_megabytes_of_text_are_refused_unread(start, opened) -> None:
    codec = WatchedCodec(opened.tokenizer)
    server = start(plain=True, codec=codec)
    for path in PATHS:
        for words, status in (("1" * 20, 200), ("1" * (1 << 20), 400)):
            message = {"role": "user", "content": words}
            body = {"prompt": words, "messages": [message], "max_tokens": 1}
            answer = httpx2.post(server.url + path, json=body, timeout=DEADLINE)
            assert answer.status_code == status
        assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert 20 <= codec.longest < 100, "only the short texts were encoded"


def test_a_response_without_measure_is_refused(start) -> None:
    body = {"prompt": "a", "n": 4, "max_tokens": 12, "logprobs": 20}
    url = start(Settings(limits=Limits(scores=4 * 12 * 21))).url + "/v1/completions"
    assert httpx2.post(url, json=body).status_code == 200
    answer = httpx2.post(url, json=body | {"echo": True})
    assert answer.status_code == 400
    assert "would have 1092 log-probabilities" in answer.json()["error"]["message"]
    answer = httpx2.post(url, json=body | {"n": 1, "prompt": ["a"] * 5})
    assert answer.status_code == 400
    assert "would have 1260 log-probabilities" in answer.json()["error"]["message"]


def test_a_body_that_is_too_large(http: httpx2.Client) -> None:
    answer = http.post("/v1/completions", json={"prompt": "a" * (5 << 20)})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert http.get("/health").status_code == 200


def test_a_body_without_end_is_cut(server) -> None:
    with connected(server.url) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n")
        connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                connection.sendall(chunk)
            pytest.fail("200 MiB were read")
    assert healthy(server.url)


def test_a_body_that_never_comes(start) -> None:
    server = start(Settings(limits=Limits(body_time=0.2)))
    with connected(server.url) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n")
        connection.sendall(b"Content-Length: 100\r\n\r\n{")
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"error"' in answer


def test_headers_that_never_end(start) -> None:
    server = start(Settings(limits=Limits(header_time=0.5)))
    silent = [connected(server.url) for _ in range(2)]
    silent[1].sendall(b"GET /health HTTP/1.1\r\nHost: local")
    silent.append(answered(server.url))
    silent[2].sendall(b"G")
    for connection in silent:
        assert received(connection) == b""
        connection.close()
    assert healthy(server.url)


def answered(url: str) -> socket.socket:
    """A connection with one request behind it. On a busy machine the first may come too late."""
    for _ in range(100):
        connection, answer = connected(url), b""
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while part := connection.recv(65536):
                answer += part
                if b"capacity" in answer:
                    return connection
        connection.close()
    pytest.fail("no request was ever in time")


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS
        b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET " + b"/a" * 50_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n" * 10_000 + b"\x00",
    ],
    ids=["tls", "header", "path", "lengths", "chunk", "http2", "nothing"],
)
def test_what_is_no_http_is_refused(server, raw: bytes) -> None:
    with connected(server.url) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
        answer = received(connection)
    refused = [f"HTTP/1.1 {status} ".encode() for status in (400, 404, 405, 431)]
    assert not answer or answer[:13] in refused
    assert healthy(server.url)


@pytest.mark.parametrize("size", [MAX_HEADERS - 500, MAX_HEADERS + 1, 6 * MAX_HEADERS])
@pytest.mark.parametrize("piece", [1 << 20, 4096])
@pytest.mark.parametrize("where", ["header", "headers", "path", "query"])
def test_headers_are_as_large_as_the_limit_says(server, size: int, piece: int, where: str) -> None:
    """Whether they come in one piece or in many."""
    lines = {
        "header": b"GET /health HTTP/1.1\r\nConnection: close\r\nX: %s\r\n" % (b"a" * size),
        "headers": b"GET /health HTTP/1.1\r\nConnection: close\r\n" + b"X: aaaa\r\n" * (size // 9),
        "path": b"GET /%s HTTP/1.1\r\nConnection: close\r\n" % (b"a" * size),
        "query": b"GET /health?%s HTTP/1.1\r\nConnection: close\r\n" % (b"a" * size),
    }[where]
    raw = lines + b"Host: localhost\r\n\r\n"
    with connected(server.url) as connection:
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(raw), piece):
                connection.sendall(raw[start : start + piece])
        answer = received(connection)
    allowed = b"404" if where == "path" else b"200"
    assert answer[9:12] == (b"431" if size > MAX_HEADERS else allowed) or (
        not answer and size > 40000
    )


def test_a_request_with_two_lengths_is_refused_and_what_follows_is_not_read(server) -> None:
    """A proxy in front may end it elsewhere, so the rest could be somebody else's request."""
    smuggled = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    body = b"0\r\n\r\n"
    for order in (0, 1):
        lengths = [b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked"]
        first, second = lengths[order], lengths[1 - order]
        head = [b"POST /v1/completions HTTP/1.1", b"Host: localhost", first, second, b"", body]
        with connected(server.url) as connection:
            connection.sendall(b"\r\n".join(head) + smuggled)
            answer = received(connection)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"not both" in answer
        assert b"connection: close" in answer.lower()


def test_a_websocket_is_not_spoken(server) -> None:
    upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-key": "x"}
    assert httpx2.get(f"{server.url}/health", headers=upgrade).status_code == 200


def test_requests_one_behind_the_other(server) -> None:
    get = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = get.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with connected(server.url) as connection:
        connection.sendall(get * 20 + last)
        assert received(connection).count(b'"status":"ok"') == 21


def test_thousands_of_connections(start) -> None:
    server = start(Settings(limits=Limits(connections=50, header_time=1000)))
    crowd = []
    try:
        for count in range(2000):
            crowd.append(connected(server.url))
            if len(crowd) > 200:
                crowd.pop(0).close()
            if count % 400 == 0:
                assert healthy(server.url)
        assert healthy(server.url)
        assert received(crowd[0]) == b"", "who waited longest made room"
        assert said_nothing_yet(crowd[-1])
    finally:
        for connection in crowd:
            connection.close()
    assert healthy(server.url)


def test_when_all_places_are_at_work_the_next_is_told_so(start) -> None:
    limits = Limits(connections=16, header_time=1000)
    server = start(Settings(limits=limits), plain=True, places=16)
    server.run(lambda: setattr(server.engine, "held", asyncio.Event()))
    body = {"prompt": "a", "max_tokens": 1, "temperature": 0}
    ask = post("/v1/completions", body, "Connection: close")
    busy = [connected(server.url) for _ in range(16)]
    for connection in busy:
        connection.sendall(ask)
    until(lambda: server.engine.running == 16)
    with connected(server.url) as more:
        answer = received(more)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in answer
    server.run(server.engine.held.set)
    for connection in busy:
        assert b" 200 " in received(connection)[:20]
        connection.close()
    assert healthy(server.url)


def test_who_does_not_read_an_answer_is_let_go(start) -> None:
    server = start(Settings(limits=Limits(stall_time=0.2)))
    body = {
        "prompt": ["a"] * 128,
        "max_tokens": 60,
        "logprobs": 20,
        "stream": True,
        "ignore_eos": True,
    }
    with contextlib.closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        place = urlsplit(server.url)
        connection.connect((place.hostname, place.port))
        connection.sendall(post("/v1/completions", body))
        until(lambda: count_of(server.url, "/v1/completions", 499))
    assert server.engine.load().running == 0
    assert healthy(server.url)
