"""A server that answers as a test tells it, and settings without anybody's own."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.waiting import until
from trainer.alerts.settings import VARIABLE, AlertSettings, parse_alerts

Wait = Callable[..., Any]
TOKEN = "s3cr3t-t0ken"
PATH = "/services/T0PSECRET"


@pytest.fixture(autouse=True)
def nobodys_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the settings nor the proxy of whoever runs the tests."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@dataclass
class Posted:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: Any
    at: float


@dataclass
class Server:
    """A local HTTP server. `answers` are (code, headers) for the next requests, then 204.
    `bodies` are what they say; nothing by default.

    While `hold` is cleared it does not answer.
    """

    port: int
    posted: list[Posted] = field(default_factory=list)
    answers: deque[tuple[int, dict[str, str]]] = field(default_factory=deque)
    bodies: deque[bytes] = field(default_factory=deque)
    hold: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    def kinds(self) -> list[str]:
        return [p.body["kind"] for p in self.posted]


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            state.hold.wait(300)
            state.posted.append(
                Posted(self.path, dict(self.headers), json.loads(body), time.monotonic())
            )
            code, headers = state.answers.popleft() if state.answers else (204, {})
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            said = state.bodies.popleft() if state.bodies else b""
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    state = Server(http.server_address[1])
    state.hold.set()
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.hold.set()
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and is nobody else's meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run that has lost 1.5 at step 40 of 100."""
    with RunWriter(tmp_path / "runs", name="my model", max_steps=100) as writer:
        writer.log(40, loss=1.5)
    return writer.run


@pytest.fixture
def wait_until() -> Wait:
    """Poll a condition until it is truthy."""

    return until


def settings(text: str) -> AlertSettings:
    """Settings out of YAML."""
    return parse_alerts(text, "alerts.yaml")


def event(kind: str, **fields: Any) -> dict[str, Any]:
    """A record as RunWriter hands it to its listener."""
    return {"time": time.time(), "event": kind, "step": 40, "attempt": 1, **fields}


ENDED = event("status", status="completed", previous="running", code=0, reason="reached step 100")
