"""The engine for GGUF files: llama.cpp's server in a child process, streamed token by token.

It differs from our own engine in three ways. The penalties count the tokens of the prompt too. A
prompt cannot be scored. llama.cpp reports neither id nor log-probability of a token that ends
inside a character, so such a character arrives whole, in the tokenizer's own spelling.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2

from shared.errors import RunError, UserError
from shared.text import one_line
from trainer.formats.gguf_parsing import GGUFFile, open_gguf
from trainer.formats.gguf_tokenizer_reading import end_ids, read_chat_template, read_tokenizer
from trainer.generate.batched.grammar import GrammarText
from trainer.generate.batched.job import (
    Event,
    Finished,
    Grammar,
    Job,
    Matcher,
    NewToken,
    TokenScore,
)
from trainer.generate.sampling import NOT_FINITE
from trainer.llama_cpp.process import LlamaServer, ServerSettings, check_installed
from trainer.serve.engine import Codec, Load, QueueFullError
from trainer.serve.llama_codec import LlamaCodec
from trainer.serve.llama_supervisor import LlamaSupervisor

SLOTS = 8
MAX_DEFAULT_CONTEXT = 8192  # llama.cpp allocates all of it for every slot at once
QUEUE_LIMIT = 256
SEEDS = 1 << 32


class LlamaCppEngine:
    """llama.cpp with `slots` jobs at once and `queue_limit` more waiting.

    `context` is that of one job: by default the trained length, at most 8192. `launcher` starts
    llama.cpp and `clock` gives monotonic seconds. Raises UserError when llama.cpp is not installed
    or `path` is not a GGUF file.
    """

    codec: Codec

    def __init__(
        self,
        path: Path,
        *,
        slots: int | None = None,
        context: int | None = None,
        queue_limit: int = QUEUE_LIMIT,
        threads: int | None = None,
        launcher: Callable[[ServerSettings], LlamaServer] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_installed()
        file = open_gguf(path)
        trained = _trained_context(file)
        self.context = context or min(trained, MAX_DEFAULT_CONTEXT)
        if not 1 <= self.context <= trained:
            raise UserError(
                f"--context is {self.context}; it must be between 1 and {trained} tokens."
            )
        self._slots = slots or SLOTS
        settings = ServerSettings(path, self.context, self._slots, threads)
        self._llama = LlamaSupervisor(settings, launcher, clock)
        self.chat_template = read_chat_template(file)
        self.codec = _codec(file, self._llama)
        self.end_ids = end_ids(file) | {self.codec.eos_id}
        self._queue_limit = queue_limit
        self._places = asyncio.Semaphore(self._slots)
        self._running = self._waiting = self._tokens_generated = self._prompt_tokens = 0
        self._client: httpx2.AsyncClient | None = None

    async def start(self) -> None:
        """Load the model. Raises RunError with llama.cpp's last words if it cannot."""
        await asyncio.to_thread(self._llama.start)
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(None, connect=10.0),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=self._slots),
            trust_env=False,  # a proxy must not come between us and our own child
        )

    async def close(self) -> None:
        """End llama.cpp; running jobs end with an error."""
        if self._client:
            await self._client.aclose()
            self._client = None
        await asyncio.to_thread(self._llama.stop)

    def load(self) -> Load:
        """How busy it is now."""
        return Load(
            running=self._running,
            waiting=self._waiting,
            capacity=self._slots,
            tokens_generated=self._tokens_generated,
            prompt_tokens=self._prompt_tokens,
        )

    async def generate(self, job: Job) -> AsyncIterator[Event]:
        """The job's events; see `Engine.generate`."""
        self._check(job)
        if self._client is None:
            raise RunError("The engine is closed.")
        if self._places.locked() and self._waiting >= self._queue_limit:
            raise QueueFullError(f"{self._waiting} jobs are waiting already")
        self._prompt_tokens += len(job.prompt)
        limit = min(job.max_new_tokens, self.context - len(job.prompt))
        if not limit:
            yield Finished("length")
            return
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        try:
            # Close the stream now, not when it is garbage collected.
            async with contextlib.aclosing(self._stream(self._client, job, limit)) as events:
                async for event in events:
                    self._tokens_generated += isinstance(event, NewToken)
                    yield event
        finally:
            self._running -= 1
            self._places.release()

    def grammar(self, wanted: GrammarText, ends: frozenset[int]) -> Grammar:
        """The grammar for a job; see `Engine.grammar`. llama.cpp checks it when the job begins."""
        if wanted.kind == "regex":
            raise UserError(
                "llama.cpp cannot follow a regular expression; give a grammar in its own notation, "
                "or serve the model with --engine torch."
            )
        return LlamaGrammar(wanted)

    def _check(self, job: Job) -> None:
        """Raise UserError for a job that llama.cpp cannot run."""
        if job.score_prompt:
            raise UserError(
                "llama.cpp cannot score a prompt (echo with logprobs); serve the checkpoint "
                "itself, or the GGUF file with --engine torch."
            )
        if job.embed:
            raise UserError(
                "llama.cpp gives no embeddings here; serve the checkpoint itself, or the GGUF file "
                "with --engine torch."
            )
        if not job.prompt:
            raise UserError("The prompt is empty; give at least one token to start from.")
        unknown = [t for t in (*job.prompt, *job.logit_bias) if not 0 <= t < self.codec.vocab_size]
        if unknown:
            raise UserError(
                f"Token id {unknown[0]} is outside the model's vocabulary of "
                f"{self.codec.vocab_size}."
            )
        if len(job.prompt) >= self.context and job.max_new_tokens:
            raise UserError(
                f"The prompt has {len(job.prompt)} tokens and the context is {self.context}; "
                "llama.cpp needs a position for the first new token, so shorten the prompt."
            )

    async def _stream(
        self, client: httpx2.AsyncClient, job: Job, limit: int
    ) -> AsyncGenerator[Event, None]:
        """Send the job and read the answer. Leaving closes the connection, which cancels it."""
        server = await asyncio.to_thread(self._llama.running)
        body = request_body(job, limit, self.codec.eos_id)
        reader = _Reader(job, self.codec)
        url, headers = server.address + "/completion", server.headers
        try:
            async with client.stream("POST", url, json=body, headers=headers) as answer:
                if answer.status_code != httpx2.codes.OK:
                    said = (await answer.aread())[:400].decode("utf-8", "replace")
                    if job.grammar and answer.status_code == httpx2.codes.BAD_REQUEST:
                        raise UserError(f"llama.cpp cannot follow the grammar: {one_line(said)}.")
                    raise RunError(f"llama.cpp refused the request: {one_line(said)}.")
                async for line in answer.aiter_lines():
                    if line.startswith("error:"):
                        raise RunError(f"llama.cpp failed: {one_line(line[6:], 300)}.")
                    if not line.startswith("data:"):
                        continue
                    for event in reader.read(json.loads(line[5:])):
                        yield event
                        if isinstance(event, Finished):
                            return
        except (httpx2.HTTPError, ValueError) as error:
            raise server.failure(error) from error
        raise server.failure(RuntimeError("the answer ended too early"))


class LlamaGrammar:
    """A grammar that llama.cpp follows by itself."""

    def __init__(self, wanted: GrammarText) -> None:
        self._wanted = wanted

    def matcher(self) -> Matcher:
        """None: llama.cpp chooses the tokens."""
        raise NotImplementedError

    def parameters(self) -> dict[str, Any]:
        """The grammar as llama.cpp's `/completion` takes it."""
        if self._wanted.kind == "json_schema":
            return {"json_schema": json.loads(self._wanted.text)}
        if self._wanted.kind == "choice":
            choices = map(json.dumps, json.loads(self._wanted.text))
            return {"grammar": "root ::= " + " | ".join(choices)}
        return {"grammar": self._wanted.text}


def request_body(job: Job, limit: int, eos_id: int) -> dict[str, Any]:
    """The job as llama.cpp's `/completion` takes it."""
    sampling = job.sampling
    greedy = sampling.temperature == 0
    seed = secrets.randbelow(SEEDS - 1) if job.seed is None else job.seed % (SEEDS - 1)
    return {
        "prompt": list(job.prompt),
        "n_predict": limit,
        "stream": True,
        "return_tokens": True,
        "cache_prompt": True,
        # The order of our own sampling; all of llama.cpp's other samplers are off.
        "samplers": ["penalties", "temperature", "min_p", "top_k", "top_p"],
        "temperature": 1.0 if greedy else sampling.temperature,
        "top_k": 1 if greedy else sampling.top_k,
        "top_p": 1.0 if greedy else sampling.top_p,
        "min_p": 0.0 if greedy else sampling.min_p,
        "typical_p": 1.0,
        "repeat_penalty": job.repetition_penalty,
        "repeat_last_n": len(job.prompt) + limit,
        "presence_penalty": job.presence_penalty,
        "frequency_penalty": job.frequency_penalty,
        "logit_bias": [[token, bias] for token, bias in job.logit_bias.items()],
        "seed": seed,
        # llama.cpp always stops at the end-of-text token unless it can never be chosen.
        "ignore_eos": eos_id not in job.stop_ids,
        **(job.grammar.parameters() if isinstance(job.grammar, LlamaGrammar) else {}),
        # Always at least one: it shows whether the output is finite.
        "n_probs": max(1, job.top_logprobs or 0),
    }


class _Reader:
    """Turns the messages of one answer into events."""

    def __init__(self, job: Job, codec: Codec) -> None:
        self._job = job
        self._codec = codec
        self._seen = 0
        self._held: TokenScore | None = None

    def read(self, message: dict[str, Any]) -> list[Event]:
        """The events of a message. Raises RunError if the message is an error."""
        if "error" in message:
            raise RunError(f"llama.cpp failed: {one_line(message['error'], 300)}.")
        if message.get("stop"):
            ended = message.get("stop_type") == "eos"
            # The token that ended the text arrives before this message; drop it.
            left: list[Event] = [] if ended else self._release()
            return [*left, Finished("stop" if ended else "length")]
        events = self._release()
        for score in self._scores(message):
            if score.token in self._job.stop_ids:
                return [*events, Finished("stop")]
            events.append(NewToken(score))
        if events and not message["content"]:
            last = events.pop()
            assert isinstance(last, NewToken)
            self._held = last.score
        return events

    def _release(self) -> list[Event]:
        held, self._held = self._held, None
        return [NewToken(held)] if held else []

    def _scores(self, message: dict[str, Any]) -> list[TokenScore]:
        places = message.get("completion_probabilities", [])
        for place in places:
            # JSON has no NaN; it arrives as null.
            if any(top["logprob"] is None for top in place["top_logprobs"][:1]):
                raise RunError(NOT_FINITE)
        count = int(message["tokens_predicted"])
        hidden, self._seen = count - self._seen - 1, count
        if hidden:
            return [TokenScore(token) for token in self._codec.encode(message["content"])]
        if self._job.top_logprobs is None:
            return [TokenScore(int(token)) for token in message["tokens"]]
        return [
            TokenScore(
                int(place["id"]),
                _logprob(place["logprob"]),
                tuple(
                    (int(top["id"]), _logprob(top["logprob"]))
                    for top in place["top_logprobs"][: self._job.top_logprobs]
                ),
            )
            for place in places
        ]


def _logprob(value: float | None) -> float:
    """A log-probability of llama.cpp's, which writes minus infinity as null."""
    return -math.inf if value is None else float(value)


def _trained_context(file: GGUFFile) -> int:
    architecture = file.text("general.architecture") or ""
    length = file.values.get(f"{architecture}.context_length")
    if not isinstance(length, int) or length < 1:
        raise UserError(f"{one_line(file.path)} does not state its context length.")
    return length


def _codec(file: GGUFFile, llama: LlamaSupervisor) -> Codec:
    """Our own tokenizer if it can read the file's, since asking a process takes longer."""
    try:
        return read_tokenizer(file)
    except UserError:
        return LlamaCodec(file, llama)
