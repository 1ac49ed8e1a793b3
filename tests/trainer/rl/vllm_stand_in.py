"""A server that speaks as much of vLLM's API as rollouts need, for tests.

Requests and answers have the fields of vLLM's `CompletionRequest` and its streamed chunks
(`vllm/entrypoints/openai/completion/protocol.py`). Its tokens follow from the prompt, the seed and
how often the weights in its folder have changed.
"""

from __future__ import annotations

import json
import random
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KNOWN = 256  # ids that it draws


@dataclass
class StandIn:
    """What the server does and what it was asked."""

    folder: Path
    dev_mode: bool = True
    #: Sent in place of a chunk, if there is something.
    junk: bytes = b""
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    weights: int = 0
    versions: int = 0
    #: Whether answers end with the token 0.
    ends: bool = False
    given_up: int = 0

    def reload(self) -> None:
        """Read the weights, if they are others."""
        weights = zlib.crc32((self.folder / "model.safetensors").read_bytes())
        self.versions += weights != self.weights
        self.weights = weights

    def tokens(self, body: dict[str, Any]) -> list[int]:
        """What it answers. By how many weights it has had: their last bits are the CPU's.
        Without special tokens, unless it is one that `ends` answers."""
        drawn = random.Random(f"{self.versions} {body['seed']} {body['prompt']}")
        answer = [drawn.randrange(2, KNOWN) for _ in range(body["max_tokens"])]
        if self.ends:
            answer[drawn.randrange(len(answer))] = 0
        return answer


def _chunk(token: int, logprob: float) -> dict[str, Any]:
    told = {
        "text_offset": [0],
        "token_logprobs": [logprob],
        "tokens": [f"token_id:{token}"],
        "top_logprobs": [{f"token_id:{token}": logprob}],
    }
    choice = {"index": 0, "text": "?", "logprobs": told, "finish_reason": None}
    return {"id": "cmpl-1", "object": "text_completion", "choices": [choice]}


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the console."""

    def do_GET(self) -> None:
        model = {"id": "served", "object": "model", "root": str(self.stand_in.folder)}
        self._answer(200, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if self.path == "/v1/completions":
            self._complete(body)
            return
        self.stand_in.calls.append(self.path)
        if not self.stand_in.dev_mode:
            self._answer(404, {"detail": "Not Found"})
        elif self.path == "/collective_rpc" and body == {"method": "reload_weights"}:
            self.stand_in.reload()
            self._answer(200, {"results": [None]})
        elif self.path == "/reset_prefix_cache":
            self._answer(200, None)
        else:
            self._answer(400, {"error": "unknown"})

    def _complete(self, body: dict[str, Any]) -> None:
        assert body["stream"] and body["return_tokens_as_token_ids"] and body["ignore_eos"]
        self.stand_in.asked.append(body)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for place, token in enumerate(self.stand_in.tokens(body)):
                data = self.stand_in.junk or json.dumps(_chunk(token, -0.5 - place)).encode()
                self.wfile.write(b"data: " + data + b"\n\n")
                self.wfile.flush()
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.stand_in.given_up += 1

    def _answer(self, status: int, content: object) -> None:
        data = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(stand_in: StandIn) -> Iterator[StandIn]:
    """Serve until the end of the block."""
    handler = type("Handler", (_Handler,), {"stand_in": stand_in})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
