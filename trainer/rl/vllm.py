"""Answers sampled by a vLLM server, over its OpenAI-compatible API.

The server runs on a folder of its own with the model. After each iteration the new weights are
written into that folder, and the server loads them in place: `reload_weights` through
`/collective_rpc`, which it offers with VLLM_SERVER_DEV_MODE=1 (vLLM's page on its sleep mode). Then
it forgets what it had computed with the old ones.

Answers are streamed, so that one that has ended costs nothing more: the connection is closed, and
the server gives the request up. End-of-text tokens are tokens like others here (`ignore_eos`).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shared.errors import RunError, UserError
from shared.text import one_line, plural
from trainer.rl.sampled import Finished, Request, Sampled, Stops
from trainer.rl.writing import Ends, Writing

if TYPE_CHECKING:
    from trainer.data.tokenizer import Tokenizer
    from trainer.rl.engine import How

SECONDS = 120.0  # without a sign of life from the server
CONNECTIONS = 64  # at once: the server batches what it has
_LINE = 1 << 20  # bytes of a streamed line, at most
_SEED = (1 << 63) - 1  # vLLM takes signed 64-bit seeds
_TOKEN = "token_id:"
_LOOK = 0.1  # seconds between two looks whether the run is to end


class VllmServer:
    """A vLLM server at `url`, such as http://127.0.0.1:8000."""

    def __init__(self, url: str, *, seconds: float = SECONDS) -> None:
        """Raises UserError for something else than a plain http URL."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise UserError(
                f"rl.vllm_url is {one_line(url)!r}; it must be like http://127.0.0.1:8000."
            )
        self.url = one_line(url)
        self._address = parts.hostname, parts.port or 80
        self._seconds = seconds
        self.model = ""

    def open(self) -> Path:
        """Ask which model is served; the folder it is read from.

        Raises UserError if no vLLM answers, or its model is not in a folder of this machine.
        """
        found = self._call("GET", "/v1/models")
        models = found.get("data") if isinstance(found, dict) else None
        first = models[0] if isinstance(models, list) and models else None
        if not isinstance(first, dict) or not isinstance(first.get("id"), str):
            raise UserError(f"{self.url} answers, but names no model: is it vLLM?")
        self.model = first["id"]
        root = first.get("root") or first["id"]
        folder = Path(str(root))
        if not folder.is_absolute() or not (folder / "config.json").is_file():
            raise UserError(
                f"vLLM at {self.url} serves {one_line(root)!r}, which is no model folder of this "
                "machine: start it on a copy of the checkpoint (vllm serve /path/to/copy)."
            )
        return folder

    def reload(self) -> None:
        """Load the weights that are in its folder now, and forget what the old ones computed."""
        self._call("POST", "/collective_rpc", {"method": "reload_weights"})
        self._call("POST", "/reset_prefix_cache")

    def stream(self, body: dict[str, Any], given_up: threading.Event) -> Generator[object]:
        """The chunks of a completion as they come. Close it to end the request."""
        with contextlib.closing(self._connection()) as connection:
            try:
                data = json.dumps({**body, "model": self.model, "stream": True})
                connection.request(
                    "POST", "/v1/completions", data, {"Content-Type": "application/json"}
                )
                response = connection.getresponse()
                if response.status != 200:
                    raise self._refused("/v1/completions", response)
                while not given_up.is_set() and (line := response.readline(_LINE)):
                    event = line.strip().removeprefix(b"data:").strip()
                    if event == b"[DONE]":
                        return
                    if event and not event.startswith(b":"):
                        yield self._parsed(event)
            except (OSError, http.client.HTTPException) as error:
                raise self._lost(error) from error

    def _call(self, method: str, path: str, body: object = None) -> Any:
        with contextlib.closing(self._connection()) as connection:
            try:
                data = None if body is None else json.dumps(body)
                connection.request(method, path, data, {"Content-Type": "application/json"})
                response = connection.getresponse()
                if response.status != 200:
                    raise self._refused(path, response)
                content = response.read(_LINE).strip()
            except (OSError, http.client.HTTPException) as error:
                raise self._lost(error) from error
        if not content:
            return None
        return self._parsed(content)

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._address, timeout=self._seconds)

    def _parsed(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise RunError(
                f"vLLM at {self.url} sent what is no JSON: {one_line(data[:80])!r}."
            ) from error

    def _refused(self, path: str, response: http.client.HTTPResponse) -> RunError:
        said = one_line(response.read(2000).decode("utf-8", "replace"), 300)
        hint = ""
        if response.status == 404 and path != "/v1/completions":
            hint = "; start it with VLLM_SERVER_DEV_MODE=1"
        return RunError(f"vLLM at {self.url} refused {path} ({response.status} {said}){hint}.")

    def _lost(self, error: Exception) -> RunError:
        why = one_line(error) or type(error).__name__
        return RunError(f"vLLM at {self.url} does not answer: {why}.")


class VllmEngine:
    """Samples from what a vLLM server serves.

    `busy` is called again and again while answers are written, and may raise to give them up.
    """

    def __init__(
        self,
        server: VllmServer,
        tokenizer: Tokenizer,
        stops: Stops,
        how: How,
        *,
        end_ids: frozenset[int] = frozenset(),
        busy: Callable[[bool], bool] = bool,
        connections: int = CONNECTIONS,
    ) -> None:
        self._server, self._how, self._busy = server, how, busy
        self._ends = Ends(tokenizer, stops, end_ids | {tokenizer.eos_id})
        self._known = tokenizer.vocab_size
        self._connections = connections

    def sample(self, requests: Sequence[Request], finished: Finished) -> None:
        """Hand the answer to each request to `finished`, with its place, as they are written.

        Raises RunError if the server fails; then, and if `busy` raises, the rest is given up.
        """
        waiting: queue.SimpleQueue[tuple[int, Request]] = queue.SimpleQueue()
        for pair in enumerate(requests):
            waiting.put(pair)
        done: queue.SimpleQueue[tuple[int, Sampled] | BaseException] = queue.SimpleQueue()
        given_up = threading.Event()

        def work() -> None:
            try:
                while not given_up.is_set():
                    place, request = waiting.get_nowait()
                    done.put((place, self._answer(place, request, given_up)))
            except queue.Empty:
                pass
            except BaseException as error:
                done.put(error)

        count = min(self._connections, len(requests))
        threads = [threading.Thread(target=work, name="vllm") for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            left = len(requests)
            while left:
                self._busy(True)
                with contextlib.suppress(queue.Empty):
                    found = done.get(timeout=_LOOK)
                    if isinstance(found, BaseException):
                        raise found
                    finished(*found)
                    left -= 1
        finally:
            given_up.set()
            for thread in threads:
                thread.join()

    def _answer(self, place: int, request: Request, given_up: threading.Event) -> Sampled:
        how = self._how
        room = how.max_new_tokens
        if how.context is not None:
            room = min(room, max(1, how.context - len(request.ids)))
        body = {
            "prompt": list(request.ids),
            "max_tokens": room,
            "temperature": how.temperature,
            "top_p": how.top_p,
            # What the model's own generation_config.json might set otherwise:
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "seed": request.seed & _SEED,
            "logprobs": 1,
            "return_tokens_as_token_ids": True,
            "ignore_eos": True,
        }
        writing, logprobs = Writing(place, request, self._ends), []
        with contextlib.closing(self._server.stream(body, given_up)) as chunks:
            for chunk in chunks:
                tokens, scores = _of_chunk(chunk, self._known)
                logprobs += scores
                if writing.add(tokens, last=len(writing.tokens) + len(tokens) >= room):
                    break
                if len(writing.tokens) >= room:
                    break
            else:  # it is not finished: judged as it is, it would be worth less than it may be
                if not given_up.is_set():
                    raise RunError(
                        f"vLLM at {self._server.url} ended an answer after "
                        f"{plural(len(writing.tokens), 'token')}, before its end."
                    )
        return writing.sampled(logprobs)


def _of_chunk(chunk: object, known: int) -> tuple[list[int], list[float]]:
    """The tokens of a streamed chunk with their log-probabilities. Raises RunError otherwise."""
    try:
        assert isinstance(chunk, dict)
        if "error" in chunk:
            raise RunError(f"vLLM failed: {one_line(chunk['error'], 300)}.")
        tokens, scores = [], []
        for choice in chunk["choices"]:
            told = choice.get("logprobs")
            if not told:
                continue
            spelled = [str(token) for token in told["tokens"]]
            tokens += [int(token.removeprefix(_TOKEN)) for token in spelled]
            scores += [float(score) for score in told["token_logprobs"]]
        assert len(tokens) == len(scores)
        assert all(0 <= token < known for token in tokens)
        assert not any(math.isnan(score) for score in scores)
    except (AssertionError, KeyError, TypeError, ValueError, AttributeError) as error:
        shown = one_line(json.dumps(chunk), 120)
        raise RunError(
            f"vLLM sent tokens that are not understood ({shown}): it has to take "
            "return_tokens_as_token_ids, and serve the model that is trained."
        ) from error
    return tokens, scores
