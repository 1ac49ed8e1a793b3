"""A small trained model behind the real API, on a real port; clients as people use them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from tests.trainer.serve.support import DEADLINE

if TYPE_CHECKING:
    import openai
    from starlette.applications import Starlette

    from trainer.checkpoint.opening import OpenedModel
    from trainer.generate.batched.job import Event, Job
    from trainer.serve.app import Settings
    from trainer.serve.engine import Load
    from trainer.serve.served import Served

CONTEXT = 64


class SequentialEngine:
    """One job at a time, the plainest way: the whole text through the model for every token.

    `places` jobs may come, the others wait in a queue of `queue`. While `held` is an event that is
    not set, no token comes, so that a test decides when something happens.
    """

    def __init__(self, opened: OpenedModel, places: int = 4, queue: int = 8) -> None:
        self.codec = opened.tokenizer
        self.end_ids = opened.end_ids
        self.context = opened.context
        self.model = opened.model
        self._places, self._queue = places, queue
        self._turn = asyncio.Semaphore(places)
        self.running = self.waiting = self.new = self.prompts = 0
        self.cancelled = 0
        self.held: asyncio.Event | None = None
        self.failure: Exception | None = None

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    def load(self) -> Load:
        """How busy it is."""
        from trainer.serve.engine import Load

        return Load(self.running, self.waiting, self._places, self.new, self.prompts)

    async def generate(self, job: Job) -> AsyncIterator[Event]:
        """The job's events."""
        import torch

        from trainer.generate.batched.job import Finished, NewToken, PromptScored
        from trainer.generate.sampling import choose
        from trainer.serve.engine import QueueFullError

        if self._turn.locked() and self.waiting >= self._queue:
            raise QueueFullError
        self.waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        ended = False
        try:
            ids, seen = list(job.prompt), Counter[int]()
            self.prompts += len(ids)
            generator = torch.Generator().manual_seed(job.seed or 0)
            if job.score_prompt:
                yield PromptScored(self._prompt_scores(job))
            for _ in range(min(job.max_new_tokens, self.context - len(ids))):
                await asyncio.sleep(0)
                if self.held is not None:
                    await self.held.wait()
                if self.failure is not None:
                    raise self.failure
                logits = self._logits(ids)[-1]
                changed = logits.clone()
                changed[self.codec.vocab_size :] = -torch.inf
                for token, bias in job.logit_bias.items():
                    changed[token] += bias
                for token, count in seen.items():
                    changed[token] -= job.presence_penalty + count * job.frequency_penalty
                token = int(choose(changed[None], job.sampling, generator)[0])
                if token in job.stop_ids:
                    ended = True
                    yield Finished("stop")
                    return
                ids.append(token)
                seen[token] += 1
                self.new += 1
                yield NewToken(self._score(logits, token, job.top_logprobs))
            ended = True
            yield Finished("length")
        finally:
            self.cancelled += not ended
            self.running -= 1
            self._turn.release()

    def _logits(self, ids: list[int]):  # type: ignore[no-untyped-def]
        import torch

        with torch.no_grad():
            return self.model(torch.tensor([ids]))[0]

    def _score(self, logits, token: int, top: int | None):  # type: ignore[no-untyped-def]
        from trainer.generate.batched.job import TokenScore

        if top is None:
            return TokenScore(token)
        logprobs = logits.log_softmax(-1)
        best = logprobs.topk(top)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return TokenScore(token, float(logprobs[token]), tuple(pairs))

    def _prompt_scores(self, job: Job):  # type: ignore[no-untyped-def]
        from trainer.generate.batched.job import TokenScore

        logits = self._logits(list(job.prompt))
        return (
            TokenScore(job.prompt[0]),
            *(
                self._score(row, token, job.top_logprobs)
                for row, token in zip(logits, job.prompt[1:], strict=False)
            ),
        )


@dataclass
class Running:
    """A server that answers at `url`, in a thread of its own."""

    url: str
    app: Starlette
    engine: Any
    served: Served
    loop: asyncio.AbstractEventLoop
    stop: Callable[[], None]  # as a signal does

    def client(self, **options: Any) -> openai.OpenAI:
        """OpenAI's own client. It does not ask again unless told."""
        import openai

        options = {"api_key": "none", "max_retries": 0, "timeout": DEADLINE} | options
        return openai.OpenAI(base_url=f"{self.url}/v1", **options)

    def run(self, action: Callable[[], Any]) -> None:
        """Do something in the server's thread, and wait for it."""

        async def do() -> None:
            action()

        asyncio.run_coroutine_threadsafe(do(), self.loop).result(DEADLINE)


@contextlib.contextmanager
def running(
    make: Callable[[], Served],
    settings: Settings | None = None,
    grace: float = 60,
    log: TextIO | None = None,
) -> Iterator[Running]:
    """Serve what `make` makes, called in the loop, until the end of the block."""
    from trainer.serve import app as application
    from trainer.serve.server import address_of, bind, make_server

    ready, box = threading.Event(), []
    sock = bind("127.0.0.1", 0)

    async def main() -> None:
        served = make()
        await served.engine.start()
        app = application.build_app(served, settings or application.Settings(), log)
        uvicorn = make_server(app, ready.set, grace)

        def stop() -> None:
            uvicorn.should_exit = True

        loop = asyncio.get_running_loop()
        box.append(Running(address_of(sock), app, served.engine, served, loop, stop))
        await uvicorn.serve(sockets=[sock])
        await served.engine.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(DEADLINE)
    (server,) = box
    try:
        yield server
    finally:
        server.stop()
        thread.join(DEADLINE)


@pytest.fixture(scope="session")
def run_folder(run_cli, token_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a byte model trained for a moment, its vocabulary padded to 300."""
    runs = tmp_path_factory.mktemp("served")
    output = run_cli(
        "train",
        "--config", "minigpt-small",
        "--runs-dir", runs,
        "--name", "tiny",
        "--data-path", token_data,
        "--max-steps", 150,
        "--seq-len", CONTEXT,
        "--eval-interval", 1000,
        "--set", "model.vocab_size=300",
        "--set", "model.hidden_size=32",
        "--set", "model.intermediate_size=64",
        "--set", "model.num_layers=1",
        "--set", f"model.max_seq_len={CONTEXT}",
        "--device", "cpu",
    )  # fmt: skip
    assert output.code == 0, output.err
    (run,) = runs.iterdir()
    return run


@pytest.fixture(scope="session")
def opened(run_folder: Path) -> OpenedModel:
    """The model of that run."""
    import torch

    from trainer.checkpoint.opening import open_model

    return open_model(run_folder, torch.device("cpu"))


@pytest.fixture(scope="session")
def make_served(opened: OpenedModel) -> Callable[..., Served]:
    """The model as it is served; `template` is a chat template, other names go to the engine.

    The engine is that of `trainer serve`, or the plain one of the tests.
    """

    def make(
        template: str | None = None,
        *,
        max_new_tokens: int = 1000,
        plain: bool = False,
        other_ends: frozenset[int] = frozenset(),
        template_time: float = 10.0,
        codec: Any = None,
        **options: Any,
    ) -> Served:
        from trainer.serve.served import Served, chat_template, fingerprint
        from trainer.serve.torch_engine import TorchEngine

        model = replace(
            opened,
            other_ends=opened.other_ends | other_ends,
            tokenizer=codec or opened.tokenizer,
        )
        mark, created = fingerprint(opened.path)
        return Served(
            engine=(SequentialEngine if plain else TorchEngine)(model, **options),
            name="tiny",
            template=chat_template(model.tokenizer, template, template_time),
            created=created,
            fingerprint=mark,
            max_new_tokens=max_new_tokens,
        )

    return make


@pytest.fixture(scope="session")
def server(make_served: Callable[..., Served]) -> Iterator[Running]:
    """A server that every test may ask and none may spoil."""
    with running(make_served) as server:
        yield server


@pytest.fixture
def start(make_served: Callable[..., Served]) -> Iterator[Callable[..., Running]]:
    """Start a server of one's own: `start(settings, grace=…, template=…, plain=True, places=…)`."""
    with contextlib.ExitStack() as stack:

        def begin(
            settings: Settings | None = None,
            grace: float = 60,
            log: TextIO | None = None,
            **options: Any,
        ) -> Running:
            return stack.enter_context(
                running(lambda: make_served(**options), settings, grace, log)
            )

        yield begin


@pytest.fixture(scope="session")
def client(server: Running) -> openai.OpenAI:
    """OpenAI's own client of that server."""
    return server.client()
