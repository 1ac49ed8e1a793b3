"""Many answers of one request, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from trainer.generate.batched.job import Event, Finished, Job, NewToken, TokenScore
from trainer.serve.answers import Ask, answers
from trainer.serve.engine import Load, QueueFullError


class Letters:
    """A codec with a letter for every token."""

    vocab_size, bos_id, eos_id, special_ids = 128, 0, 0, frozenset[int]()

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`."""
        return list(text.encode())

    def decode_bytes(self, ids, skip_special: bool = False) -> bytes:  # type: ignore[no-untyped-def]
        """The bytes of `ids`."""
        return bytes(ids)


class Crowded:
    """An engine with two places, in which others take `taken` of the turns: it says it is full."""

    codec, context = Letters(), 100

    def __init__(self, taken: set[int]) -> None:
        self.taken, self.calls, self.inside, self.most = taken, 0, 0, 0

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    def load(self) -> Load:
        """How busy it is."""
        return Load(self.inside, 0, 2, 0, 0)

    async def generate(self, job: Job) -> AsyncIterator[Event]:
        """The prompt once more."""
        self.calls += 1
        if self.calls in self.taken:
            raise QueueFullError
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            for token in job.prompt:
                await asyncio.sleep(0)
                yield NewToken(TokenScore(token))
            yield Finished("length")
        finally:
            self.inside -= 1


async def texts(engine: Crowded, prompts: list[str]) -> list[str]:
    """What comes of each."""
    asks = [Ask(i, Job(tuple(p.encode()), 9)) for i, p in enumerate(prompts)]
    found = [""] * len(prompts)
    async for part in answers(engine, asks):
        found[part.index] += part.piece.text
    return found


async def test_no_request_takes_more_places_than_there_are() -> None:
    engine = Crowded(set())
    prompts = [f"text {n}" for n in range(9)]
    assert await texts(engine, prompts) == prompts
    assert engine.most == 2


async def test_a_request_that_has_begun_waits_for_its_turn() -> None:
    engine = Crowded({3, 4, 6})
    prompts = [f"text {n}" for n in range(5)]
    assert await texts(engine, prompts) == prompts
    assert engine.calls == 5 + 3


@pytest.mark.parametrize("taken", [{1}, {2}, {1, 2}])
async def test_a_request_that_finds_no_place_is_refused_whole(taken: set[int]) -> None:
    engine = Crowded(taken)
    with pytest.raises(QueueFullError):
        await texts(engine, ["a", "b", "c"])
    assert engine.inside == 0


async def test_who_stops_reading_ends_all_jobs() -> None:
    engine = Crowded(set())
    parts = answers(engine, [Ask(i, Job(tuple(b"long text"), 9)) for i in range(4)])
    await anext(parts)
    assert engine.inside == 2
    await parts.aclose()
    assert engine.inside == 0
