"""From jobs to pieces of text: one answer, or all answers of a request at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import cast

from trainer.generate.batched.job import (
    Embedded,
    Event,
    Finished,
    FinishReason,
    Job,
    NewToken,
    PromptScored,
    TokenScore,
)
from trainer.serve.engine import Engine, QueueFullError
from trainer.serve.text_stream import Piece, TextStream

BUFFERED = 64  # pieces of a request that wait to be read
RETRY = 0.05  # seconds between tries to queue the later answers of a request


@dataclass(frozen=True)
class Ask:
    """One answer to generate.

    `ends` are tokens that end it but still count as its last token in the log-probabilities.
    """

    index: int
    job: Job
    stops: tuple[str, ...] = ()
    ends: frozenset[int] = frozenset()
    echo: bool = False


@dataclass(frozen=True)
class Part:
    """The next piece of an answer, the number of its tokens, and if it is the last one, why.

    `vector` is the embedding, for a job that asks for one.
    """

    index: int
    piece: Piece
    new_tokens: int = 0
    reason: FinishReason | None = None
    vector: tuple[float, ...] = ()


async def answer(engine: Engine, ask: Ask) -> AsyncGenerator[Part, None]:
    """The parts of one answer; the last one has a reason. Raises what the engine raises."""
    stream = TextStream(engine.codec, ask.stops)
    events = cast(AsyncGenerator[Event, None], engine.generate(ask.job))
    echo = ask.echo
    async with contextlib.aclosing(events):
        async for event in events:
            if echo:
                echo = False
                plain = tuple(map(TokenScore, ask.job.prompt))
                scores = event.scores if isinstance(event, PromptScored) else plain
                yield Part(ask.index, stream.echo(scores))
            if isinstance(event, NewToken):
                piece = stream.feed(event.score)
                if stream.stopped:
                    yield Part(ask.index, piece, 1, "stop")
                    return
                if event.score.token in ask.ends:
                    rest = stream.finish()
                    last = Piece(piece.text + rest.text, piece.tokens + rest.tokens)
                    yield Part(ask.index, last, 1, "stop")
                    return
                yield Part(ask.index, piece, 1)
            elif isinstance(event, Embedded):
                yield Part(ask.index, Piece(), vector=event.vector)
            elif isinstance(event, Finished):
                rest = stream.finish()
                yield Part(ask.index, rest, 0, "stop" if stream.stopped else event.reason)
                return


async def answers(engine: Engine, asks: Sequence[Ask]) -> AsyncGenerator[Part, None]:
    """The parts of all answers as they arrive; those of each answer are in order.

    A request has at most as many jobs in the engine as the engine has slots, so a long list does
    not fill the queue. Raises QueueFullError only before the first part; later jobs wait.
    """
    if len(asks) == 1:
        async with contextlib.aclosing(answer(engine, asks[0])) as parts:
            async for part in parts:
                yield part
        return
    queue: asyncio.Queue[Part | BaseException] = asyncio.Queue(BUFFERED)
    gate = asyncio.Semaphore(max(1, engine.load().capacity))
    begun = asyncio.Event()

    async def work(ask: Ask) -> None:
        async with gate:
            while True:
                try:
                    async with contextlib.aclosing(answer(engine, ask)) as parts:
                        async for part in parts:
                            begun.set()
                            await queue.put(part)
                    return
                except QueueFullError as error:
                    if not begun.is_set():
                        await queue.put(error)
                        return
                    await asyncio.sleep(RETRY)
                except Exception as error:
                    await queue.put(error)
                    return

    tasks = [asyncio.create_task(work(ask)) for ask in asks]
    left = len(tasks)
    try:
        while left:
            item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            left -= item.reason is not None
            yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
