"""The engine of our own models: a decoding thread, and jobs that come from an event loop.

The thread owns the model and the `Decoder`. Jobs wait in a queue of bounded length, first come,
first served. After every turn its results are handed to the event loop in one call.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from shared.errors import RunError, UserError
from shared.text import one_line
from trainer.checkpoint.opening import OpenedModel
from trainer.generate.batched.building import DecoderPlan, Precision, build_decoder, plan_decoder
from trainer.generate.batched.decoder import Decoder
from trainer.generate.batched.grammar import GrammarCompiler, GrammarText
from trainer.generate.batched.job import Event, Finished, Grammar, Job, NewToken, check_job
from trainer.generate.batched.running import Outcome, Running
from trainer.model.inference.drafts import Drafted
from trainer.model.language_model import LanguageModel
from trainer.serve.engine import Load, QueueFullError

QUEUE_LIMIT = 256

#: Builds the decoder in the decoding thread: (model, plan, ids the tokenizer knows).
MakeDecoder = Callable[[LanguageModel, DecoderPlan, int], Decoder]


@dataclass(eq=False)
class _Ticket:
    """A job that was submitted. `inbox` belongs to the event loop."""

    running: Running
    inbox: asyncio.Queue[Event | UserError] = field(default_factory=asyncio.Queue)


class TorchEngine:
    """Continuous batching of a LanguageModel over one key-value cache.

    `slots` jobs run at once and `queue_limit` more may wait. `slots`, `context`, `precision`,
    `prefill_chunk` and `draft` are those of `plan_decoder`. `make_decoder` builds the decoder.
    """

    def __init__(
        self,
        opened: OpenedModel,
        *,
        slots: int | None = None,
        context: int | None = None,
        queue_limit: int = QUEUE_LIMIT,
        threads: int | None = None,
        precision: Precision | None = None,
        prefill_chunk: int | None = None,
        draft: bool = True,
        make_decoder: MakeDecoder = build_decoder,
    ) -> None:
        self.codec = opened.tokenizer
        self.end_ids = opened.end_ids
        self._model: LanguageModel = opened.model
        self._plan = plan_decoder(
            opened.model,
            slots=slots,
            context=context,
            precision=precision,
            prefill_chunk=prefill_chunk,
            draft=draft,
        )
        self.context = self._plan.context
        self._make_decoder = make_decoder
        self._queue_limit = queue_limit
        self._threads = threads
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # Both threads use these, under this lock.
        self._changed = threading.Condition()
        self._waiting: deque[_Ticket] = deque()
        self._admitted: dict[Running, _Ticket] = {}
        self._closing = False
        self._tokens_generated = 0
        self._prompt_tokens = 0
        self._drafted = Drafted()

    # The event loop's side

    async def start(self) -> None:
        """Start the thread, which packs the weights and allocates the cache.

        Raises RunError when memory does not suffice.
        """
        self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="decoding", daemon=True
        )
        self._thread.start()
        await ready

    async def close(self) -> None:
        """End all jobs with an error, and the thread after its current turn."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread:
            await asyncio.to_thread(self._thread.join)

    async def generate(self, job: Job) -> AsyncIterator[Event]:
        """The job's events; see `Engine.generate`."""
        ticket = self._submit(job)
        if not ticket:
            yield Finished("length")
            return
        try:
            while True:
                event = await ticket.inbox.get()
                if isinstance(event, UserError):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            self._withdraw(ticket)

    def grammar(self, wanted: GrammarText, ends: frozenset[int]) -> Grammar:
        """The grammar for a job; see `Engine.grammar`."""
        return self._grammars.compile(wanted, ends)

    @cached_property
    def _grammars(self) -> GrammarCompiler:
        codec = self.codec
        tokens = [codec.decode_bytes([index]) for index in range(codec.vocab_size)]
        return GrammarCompiler(tokens, codec.special_ids)

    def load(self) -> Load:
        """How busy the engine is now."""
        with self._changed:
            return Load(
                running=len(self._admitted),
                waiting=len(self._waiting),
                capacity=self._plan.slots,
                tokens_generated=self._tokens_generated,
                prompt_tokens=self._prompt_tokens,
                tokens_drafted=self._drafted.drafted,
                drafts_accepted=self._drafted.accepted,
            )

    def _submit(self, job: Job) -> _Ticket | None:
        """Put the job into the queue; None if there is nothing to compute."""
        check_job(
            job,
            context=self.context,
            vocabulary=self._model.dimensions.V,
            known_ids=self.codec.vocab_size,
        )
        ticket = _Ticket(Running.of(job, self.context))
        with self._changed:
            if self._closing or self._thread is None:
                raise RunError("The engine is closed.")
            if len(self._waiting) >= self._queue_limit:
                raise QueueFullError(f"{len(self._waiting)} jobs are waiting already")
            self._prompt_tokens += len(job.prompt)
            if not (job.max_new_tokens or job.score_prompt or job.embed):
                return None
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def _withdraw(self, ticket: _Ticket) -> None:
        """Forget a job that nobody reads any more; the thread frees its slot."""
        with self._changed:
            with contextlib.suppress(ValueError):
                self._waiting.remove(ticket)
            if self._admitted.pop(ticket.running, None):
                self._changed.notify()

    def _deliver(self, letters: Sequence[tuple[_Ticket, Sequence[Event | UserError]]]) -> None:
        for ticket, events in letters:
            for event in events:
                ticket.inbox.put_nowait(event)

    # The decoding thread's side

    def _run(self, ready: asyncio.Future[None]) -> None:
        assert self._loop is not None
        if self._threads:
            torch.set_num_threads(self._threads)
        try:
            decoder = self._make_decoder(self._model, self._plan, self.codec.vocab_size)
        except Exception as error:
            self._loop.call_soon_threadsafe(ready.set_exception, error)
            return
        self._loop.call_soon_threadsafe(ready.set_result, None)
        end = RunError("The server is closing.")
        try:
            with decoder.computing():
                while self._admit(decoder):
                    outcomes = self._turn(decoder)
                    self._drafted = replace(decoder.drafted)
                    self._send(outcomes)
        except Exception as error:  # such as a lost GPU, after which nothing works
            end = RunError(f"The engine has failed: {one_line(error, 300)}; start it again.")
        self._end(end)

    def _admit(self, decoder: Decoder) -> bool:
        """Release withdrawn jobs and admit waiting ones; sleep if there are none.

        Returns False when the engine is closing.
        """
        with self._changed:
            while not (self._closing or self._waiting or self._admitted):
                for running in list(decoder.running):
                    decoder.release(running)
                self._changed.wait()
            for running in [r for r in decoder.running if r not in self._admitted]:
                decoder.release(running)
            while self._waiting and not decoder.full and not self._closing:
                ticket = self._waiting.popleft()
                self._admitted[ticket.running] = ticket
                decoder.admit(ticket.running)
            return not self._closing

    def _turn(self, decoder: Decoder) -> list[Outcome]:
        try:
            return decoder.turn()
        except Exception as error:  # out of memory, or an error of a kernel
            failure = RunError(f"The model failed: {one_line(error, 300)}")
            return [Outcome(running, [], failure) for running in decoder.release_all()]

    def _send(self, outcomes: Sequence[Outcome]) -> None:
        """Hand the results of a turn to the event loop at once."""
        letters: list[tuple[_Ticket, Sequence[Event | UserError]]] = []
        with self._changed:
            for outcome in outcomes:
                events = outcome.events
                self._tokens_generated += sum(isinstance(event, NewToken) for event in events)
                over = outcome.error or (events and isinstance(events[-1], Finished))
                ticket = self._admitted.get(outcome.running)
                if over:
                    self._admitted.pop(outcome.running, None)
                if ticket and (events or outcome.error):
                    letters.append((ticket, [outcome.error] if outcome.error else events))
        self._post(letters)

    def _end(self, end: RunError) -> None:
        """End all remaining jobs with `end`."""
        with self._changed:
            self._closing = True
            left = [*self._admitted.values(), *self._waiting]
            self._admitted.clear()
            self._waiting.clear()
        self._post([(ticket, [end]) for ticket in left])

    def _post(self, letters: Sequence[tuple[_Ticket, Sequence[Event | UserError]]]) -> None:
        assert self._loop is not None
        # The event loop may have ended without waiting for this thread.
        with contextlib.suppress(RuntimeError):
            if letters:
                self._loop.call_soon_threadsafe(self._deliver, letters)
