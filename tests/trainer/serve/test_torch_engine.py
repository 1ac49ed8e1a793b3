"""The engine as the API has it: jobs from an event loop, a thread that decodes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.errors import RunError, UserError
from tests.trainer.generate.sharp_models import sharp_model
from trainer.checkpoint.opening import OpenedModel
from trainer.data.tokenizer_training import train_tokenizer
from trainer.generate.batched.building import build_decoder
from trainer.generate.batched.decoder import Decoder
from trainer.generate.batched.job import Event, Finished, Job, NewToken
from trainer.generate.batched.running import Outcome
from trainer.generate.decoding import generate
from trainer.generate.sampling import Sampling
from trainer.model.language_model import LanguageModel
from trainer.serve.engine import QueueFullError
from trainer.serve.torch_engine import TorchEngine

CONTEXT = 64
GREEDY = Sampling(temperature=0)
JOB = Job((1, 2, 3), 20, GREEDY)


def model_of(**changes: Any) -> LanguageModel:
    return sharp_model(**{"vocab_size": 300, "max_seq_len": CONTEXT, **changes})


MODEL = model_of()
TOKENIZER = train_tokenizer((), kind="char")


@contextlib.asynccontextmanager
async def engine_of(model: LanguageModel = MODEL, **options: Any) -> AsyncIterator[TorchEngine]:
    engine = TorchEngine(OpenedModel(model, TOKENIZER, Path("a")), **{"threads": 1, **options})
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def run(engine: TorchEngine, job: Job) -> list[Event]:
    return [event async for event in engine.generate(job)]


def tokens_of(events: list[Event]) -> list[int]:
    return [event.score.token for event in events if isinstance(event, NewToken)]


def expected(job: Job) -> list[int]:
    room = max(1, CONTEXT - len(job.prompt))
    count = min(room, job.max_new_tokens)
    known = TOKENIZER.vocab_size
    return list(
        generate(MODEL, job.prompt, count, GREEDY, stop_ids=job.stop_ids, allowed_ids=known)
    )


class Watched:
    """A decoder that calls `before_turn` with itself before every turn."""

    def __init__(self, decoder: Decoder, before_turn: Callable[[Decoder], None]) -> None:
        self._decoder = decoder
        self._before_turn = before_turn

    def turn(self) -> list[Outcome]:
        self._before_turn(self._decoder)
        return self._decoder.turn()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)


def watched(before_turn: Callable[[Decoder], None], **replaced: Any) -> Callable[..., Any]:
    """What an engine takes as `make_decoder`; `replaced` are methods of the decoder to replace."""

    def make(*arguments: Any) -> Watched:
        decoder = Watched(build_decoder(*arguments), before_turn)
        for name, method in replaced.items():
            setattr(decoder, name, method)
        return decoder

    return make


class Permits:
    """The decoding thread waits for one before every turn with jobs."""

    def __init__(self) -> None:
        self._semaphore = threading.Semaphore(0)
        self.release = self._semaphore.release
        self.make_decoder = watched(self._acquire)

    def _acquire(self, decoder: Decoder) -> None:
        if decoder.running:
            assert self._semaphore.acquire(timeout=120)


@pytest.fixture
def permits() -> Permits:
    return Permits()


# What comes


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
async def test_many_at_once_get_what_each_gets_alone(precision: str) -> None:
    jobs = [Job(tuple(range(1 + n, 3 + 5 * n)), 15, GREEDY) for n in range(12)]
    async with engine_of(slots=5, prefill_chunk=7, precision=precision) as engine:
        found = await asyncio.gather(*(run(engine, job) for job in jobs))
        load = engine.load()
    assert [tokens_of(events) for events in found] == [expected(job) for job in jobs]
    assert (load.running, load.waiting, load.capacity) == (0, 0, 5)
    assert load.tokens_generated == sum(len(expected(job)) for job in jobs)
    assert load.prompt_tokens == sum(len(job.prompt) for job in jobs)


async def test_extra_heads_draft_the_same_tokens_and_are_counted() -> None:
    model = model_of(mtp_heads=2)
    # Heads that repeat one token: right now and then, wherever the text repeats it.
    with torch.no_grad():
        for head in (model.mtp_head_0, model.mtp_head_1):
            head.weight.zero_()
            head.bias.zero_()
            head.bias[expected(JOB)[3]] = 1.0
    jobs = [replace(JOB, prompt=(n, n + 1)) for n in range(3)]
    found = {}
    for draft in (False, True):
        async with engine_of(model, draft=draft) as engine:
            found[draft] = [tokens_of(await run(engine, job)) for job in jobs]
            load = engine.load()
        assert (load.tokens_drafted > 0) is draft
        assert 0 <= load.drafts_accepted <= load.tokens_drafted
        assert load.tokens_generated == 60
    assert found[True] == found[False]


async def test_half_precision_is_close() -> None:
    job = Job((1, 2, 3), 5, GREEDY, top_logprobs=4)
    async with engine_of(precision="bf16") as half, engine_of() as full:
        one, other = await run(half, job), await run(full, job)
    assert one[0].score.logprob == pytest.approx(other[0].score.logprob, abs=0.2)


async def test_a_stop_token_ends_it_and_is_not_given() -> None:
    free = expected(JOB)
    stop = free[7]
    async with engine_of() as engine:
        events = await run(engine, replace(JOB, stop_ids=frozenset([stop])))
    assert tokens_of(events) == free[: free.index(stop)]
    assert events[-1] == Finished("stop")


@pytest.mark.parametrize(("length", "given"), [(60, 4), (63, 1), (64, 1)])
async def test_a_full_context_ends_it(length: int, given: int) -> None:
    async with engine_of() as engine:
        events = await run(engine, Job(tuple(range(length)), 20, GREEDY))
    assert len(tokens_of(events)) == given
    assert events[-1] == Finished("length")


async def test_nothing_new_is_wanted() -> None:
    async with engine_of() as engine:
        assert await run(engine, replace(JOB, max_new_tokens=0)) == [Finished("length")]
        scored = await run(engine, replace(JOB, max_new_tokens=0, score_prompt=True))
    assert len(scored[0].scores) == 3
    assert scored[1:] == [Finished("length")]


@pytest.mark.parametrize(
    ("job", "named"),
    [
        (replace(JOB, prompt=()), "empty"),
        (replace(JOB, prompt=(1, 300)), "id 300"),
        (replace(JOB, prompt=(-1,)), "-1"),
        (replace(JOB, prompt=(1,) * 65), "65 tokens"),
        (replace(JOB, logit_bias={299: 1.0}), "bias has token id 299"),
    ],
)
async def test_what_cannot_be_done_is_refused(job: Job, named: str) -> None:
    async with engine_of() as engine:
        with pytest.raises(UserError, match=named):
            await run(engine, job)
        assert tokens_of(await run(engine, JOB)) == expected(JOB)


async def test_a_smaller_context() -> None:
    async with engine_of(context=10) as engine:
        assert engine.context == 10
        assert len(tokens_of(await run(engine, JOB))) == 7
    with pytest.raises(UserError, match="--context is 65"):
        TorchEngine(OpenedModel(MODEL, TOKENIZER, Path("a")), context=65)


# Who comes when


async def test_a_full_queue_refuses_and_the_first_come_is_first(
    permits: Permits,
) -> None:
    order: list[int] = []

    async def numbered(engine: TorchEngine, number: int) -> None:
        await run(engine, replace(JOB, max_new_tokens=2))
        order.append(number)

    async with engine_of(slots=1, queue_limit=3, make_decoder=permits.make_decoder) as engine:
        first = asyncio.create_task(numbered(engine, 0))
        while engine.load().running == 0:
            await asyncio.sleep(0)
        others = [asyncio.create_task(numbered(engine, number)) for number in (1, 2, 3)]
        while engine.load().waiting < 3:
            await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await run(engine, JOB)
        assert engine.load().waiting == 3
        permits.release(100)
        await asyncio.gather(first, *others)
    assert order == [0, 1, 2, 3]


async def test_leaving_frees_the_place_at_once(permits: Permits) -> None:
    async with engine_of(slots=1, make_decoder=permits.make_decoder) as engine:
        leaving = engine.generate(JOB)
        permits.release()
        await anext(leaving)
        waiting = asyncio.create_task(run(engine, replace(JOB, max_new_tokens=3)))
        while engine.load().waiting == 0:
            await asyncio.sleep(0)
        await leaving.aclose()
        assert engine.load().running == 0
        permits.release(100)
        assert len(tokens_of(await waiting)) == 3
        assert engine.load().tokens_generated <= 5


async def test_leaving_the_queue(permits: Permits) -> None:
    async with engine_of(slots=1, make_decoder=permits.make_decoder) as engine:
        first = asyncio.create_task(run(engine, JOB))
        while engine.load().running == 0:
            await asyncio.sleep(0)
        second = asyncio.create_task(run(engine, JOB))
        while engine.load().waiting == 0:
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert engine.load().waiting == 0
        permits.release(100)
        assert tokens_of(await first) == expected(JOB)
        assert engine.load().tokens_generated == 20


async def test_tokens_come_one_by_one(permits: Permits) -> None:
    async with engine_of(make_decoder=permits.make_decoder) as engine:
        events = engine.generate(JOB)
        for token in expected(JOB)[:5]:
            permits.release()
            assert (await anext(events)).score.token == token
        await events.aclose()
        permits.release()  # for the turn that may have begun before


async def test_an_idle_engine_takes_no_turns() -> None:
    turns: list[int] = []
    count = watched(lambda decoder: turns.append(len(decoder.running)))
    async with engine_of(make_decoder=count) as engine:
        await run(engine, JOB)
        await run(engine, JOB)
    assert turns == [1] * 40


# What fails


async def test_a_failure_ends_the_jobs_it_met_and_no_more() -> None:
    def fail(decoder: Decoder) -> None:
        if any(len(running.tokens) > 8 for running in decoder.running):
            raise RuntimeError("no memory\x1b[31m for this")

    async with engine_of(make_decoder=watched(fail)) as engine:
        with pytest.raises(RunError, match="The model failed: no memory") as failure:
            await run(engine, JOB)
        assert "\x1b" not in str(failure.value)
        short = replace(JOB, max_new_tokens=5)
        assert tokens_of(await run(engine, short)) == expected(short)
        assert engine.load().running == 0


async def test_a_diverged_model_says_so() -> None:
    model = model_of()
    with torch.no_grad():
        model.lm_head.weight[:] = torch.nan
    async with engine_of(model) as engine:
        for _ in range(2):
            with pytest.raises(RunError, match="not finite"):
                await run(engine, JOB)


async def test_a_failure_that_nothing_mends_leaves_nobody_waiting() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the device is lost")

    async with engine_of(slots=1, make_decoder=watched(fail, release_all=fail)) as engine:
        results = await asyncio.gather(
            *(run(engine, JOB) for _ in range(3)), return_exceptions=True
        )
        assert "the device is lost" in str(results[0])
        assert all(isinstance(result, RunError) for result in results)
        with pytest.raises(RunError, match="closed"):
            await run(engine, JOB)


async def test_closing_ends_what_runs_and_what_waits(permits: Permits) -> None:
    opened = OpenedModel(MODEL, TOKENIZER, Path("a"))
    engine = TorchEngine(opened, slots=1, threads=1, make_decoder=permits.make_decoder)
    await engine.start()
    tasks = [asyncio.create_task(run(engine, JOB)) for _ in range(3)]
    while engine.load().waiting < 2:
        await asyncio.sleep(0)
    permits.release(100)
    closing = asyncio.create_task(engine.close())
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await closing
    # The first may have ended before; nobody waits for ever.
    assert all(isinstance(result, RunError | list) for result in results)
    assert isinstance(results[2], RunError)
    with pytest.raises(RunError, match="closed"):
        await run(engine, JOB)


async def test_a_cache_that_no_memory_holds() -> None:
    model = model_of(max_seq_len=1 << 20)
    engine = TorchEngine(OpenedModel(model, TOKENIZER, Path("a")), slots=1 << 30)
    with pytest.raises(RunError, match="fewer slots or a shorter context"):
        await engine.start()
    await engine.close()
