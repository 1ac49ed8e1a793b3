"""The engine of our own models: a decoding thread, and jobs that come from an event loop.

The thread owns the model and the `Decoder`. Jobs wait in a queue of bounded length, first come,
first served; after every turn what came of it is handed to the event loop in one call.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

import psutil
import torch

from shared.errors import RunError, UserError
from shared.text import format_bytes, one_line
from trainer.checkpoint.opening import OpenedModel
from trainer.generate.batched.decoder import Decoder, Outcome, Running
from trainer.generate.batched.engine import Event, Finished, Job, Load, NewToken, QueueFullError
from trainer.model.dimensions import Dimensions
from trainer.model.inference.packing import can_pack, packed
from trainer.model.inference.slot_cache import SlotCache
from trainer.model.language_model import LanguageModel

Precision = Literal["fp32", "fp16", "bf16"]

MAX_SLOTS = 32  # where memory allows; more rows than that cost a CPU as much as they bring
QUEUE_LIMIT = 256
CPU_PREFILL_CHUNK = 64  # tokens; more do not make a CPU's matrix products faster
GPU_PREFILL_CHUNK = 512


@dataclass(eq=False)
class _Ticket:
    """A job on its way. `inbox` belongs to the event loop."""

    running: Running
    inbox: asyncio.Queue[Event | UserError] = field(default_factory=asyncio.Queue)
    gone: bool = False


class TorchEngine:
    """Continuous batching of a LanguageModel over one key-value cache.

    `slots` jobs run at once (default: as many as a quarter of the free memory holds, at most 32)
    and `queue_limit` more may wait. `context` is at most the model's. `precision` is how a CPU
    keeps the weights (`fp32` or `fp16`, packed), or the type in which a GPU computes (`fp32` or
    `bf16`); by default fp32 on a CPU and bf16 on a GPU that has it.
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
    ) -> None:
        self.codec = opened.tokenizer
        self.end_ids = opened.end_ids
        self.context = context or opened.context
        if not 1 <= self.context <= opened.context:
            raise UserError(
                f"--context is {self.context}; this model can see 1 to {opened.context} tokens."
            )
        self._model: LanguageModel = opened.model
        self._device = opened.model.device
        self._precision = _resolve(precision, self._device)
        on_cpu = self._device.type == "cpu"
        self._chunk = prefill_chunk or (CPU_PREFILL_CHUNK if on_cpu else GPU_PREFILL_CHUNK)
        self._slots = slots or _default_slots(
            opened.model.dimensions, self.context, self._cache_type, self._device
        )
        self._queue_limit = queue_limit
        self._threads = threads
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # What both threads touch, under this lock.
        self._changed = threading.Condition()
        self._waiting: deque[_Ticket] = deque()
        self._admitted: dict[Running, _Ticket] = {}
        self._closing = False
        self._tokens_generated = 0
        self._prompt_tokens = 0

    # The event loop's side

    async def start(self) -> None:
        """Pack the weights, allocate the cache and start the thread.

        Raises RunError when the memory does not suffice.
        """
        self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="decoding", daemon=True
        )
        self._thread.start()
        await ready

    async def close(self) -> None:
        """End all jobs with an error and the thread after its turn."""
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

    def load(self) -> Load:
        """How busy it is now."""
        with self._changed:
            return Load(
                running=len(self._admitted),
                waiting=len(self._waiting),
                capacity=self._slots,
                tokens_generated=self._tokens_generated,
                prompt_tokens=self._prompt_tokens,
            )

    def _submit(self, job: Job) -> _Ticket | None:
        """Put the job into the queue; None when there is nothing to do."""
        self._check(job)
        # The last token needs no position, so a full context still has one to give.
        room = max(1, self.context - len(job.prompt))
        ticket = _Ticket(Running(job, min(job.max_new_tokens, room)))
        with self._changed:
            if self._closing or self._thread is None:
                raise RunError("The engine is closed.")
            if len(self._waiting) >= self._queue_limit:
                raise QueueFullError(f"{len(self._waiting)} jobs are waiting already")
            self._prompt_tokens += len(job.prompt)
            if not (job.max_new_tokens or job.score_prompt):
                return None
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def _check(self, job: Job) -> None:
        """Raises UserError for a job that cannot be done."""
        if not job.prompt:
            raise UserError("The prompt is empty; give at least one token to start from.")
        # A model may be padded past the ids that its tokenizer has; those are never chosen.
        known = self.codec.vocab_size
        for what, ids, end in (
            ("prompt", job.prompt, self._model.dimensions.V),
            ("logit bias", job.logit_bias, known),
        ):
            unknown = [token for token in ids if not 0 <= token < end]
            if unknown:
                raise UserError(
                    f"The {what} has token id {unknown[0]}, outside the vocabulary of {end} ids."
                )
        if len(job.prompt) > self.context:
            raise UserError(
                f"The prompt has {len(job.prompt)} tokens and the context is {self.context}; "
                "shorten it."
            )

    def _withdraw(self, ticket: _Ticket) -> None:
        """Take back a job that is over for whoever asked; the thread frees its slot."""
        with self._changed:
            ticket.gone = True
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
        # One autocast for good: it keeps the weights it has cast.
        with torch.inference_mode(), self._autocast():
            try:
                decoder = self._decoder()
            except Exception as error:
                failure = self._no_memory(error) if isinstance(error, RuntimeError) else error
                self._loop.call_soon_threadsafe(ready.set_exception, failure)
                return
            self._loop.call_soon_threadsafe(ready.set_result, None)
            end = RunError("The server is closing.")
            try:
                while self._admit(decoder):
                    self._send(self._turn(decoder))
            except Exception as error:  # such as a GPU that is lost: nothing can go on
                end = RunError(f"The engine has failed: {one_line(error, 300)}; start it again.")
        self._end(end)

    def _decoder(self) -> Decoder:
        cache = SlotCache(
            self._model.dimensions, self._slots, self.context, self._device, self._cache_type
        )
        if self._device.type == "cpu" and self._precision != "bf16" and can_pack(self._precision):
            self._model = packed(self._model, self._precision)
        return Decoder(
            self._model, cache, known_ids=self.codec.vocab_size, prefill_chunk=self._chunk
        )

    def _admit(self, decoder: Decoder) -> bool:
        """Let go who has left and let in who waits, or wait for one; False when closing."""
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
        except Exception as error:  # out of memory, or whatever a kernel has to say
            failure = RunError(f"The model failed: {one_line(error, 300)}")
            return [Outcome(running, [], failure) for running in decoder.release_all()]

    def _send(self, outcomes: Sequence[Outcome]) -> None:
        """Hand everything a turn brought to the event loop at once."""
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
        """Tell everybody who is left that it is over, and why."""
        with self._changed:
            self._closing = True
            left = [*self._admitted.values(), *self._waiting]
            self._admitted.clear()
            self._waiting.clear()
        self._post([(ticket, [end]) for ticket in left])

    def _post(self, letters: Sequence[tuple[_Ticket, Sequence[Event | UserError]]]) -> None:
        assert self._loop is not None
        # The event loop may have ended without waiting for us; then nobody listens.
        with contextlib.suppress(RuntimeError):
            if letters:
                self._loop.call_soon_threadsafe(self._deliver, letters)

    # Memory and precision

    @property
    def _cache_type(self) -> torch.dtype:
        return torch.bfloat16 if self._precision == "bf16" else torch.float32

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "bf16":
            return torch.autocast(self._device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def _no_memory(self, error: RuntimeError) -> RunError:
        size = self._slots * _slot_bytes(self._model.dimensions, self.context, self._cache_type)
        return RunError(
            f"The key-value cache of {self._slots} slots needs {format_bytes(size)} "
            f"({one_line(error, 120)}); use fewer slots or a shorter context."
        )


def _slot_bytes(n: Dimensions, context: int, dtype: torch.dtype) -> int:
    return 2 * n.L * n.K * context * n.C * dtype.itemsize


def _default_slots(n: Dimensions, context: int, dtype: torch.dtype, device: torch.device) -> int:
    """As many as fit into a quarter of the free memory, at least one."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        free = psutil.virtual_memory().available
    return max(1, min(MAX_SLOTS, free // 4 // _slot_bytes(n, context, dtype)))


def _resolve(precision: Precision | None, device: torch.device) -> Precision:
    if precision is None:
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if fast else "fp32"
    if precision == "fp16" and not (device.type == "cpu" and can_pack("fp16")):
        raise UserError("fp16 is for CPUs with FBGEMM; use fp32, or bf16 on a GPU.")
    return precision
