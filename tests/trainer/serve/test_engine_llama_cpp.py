"""GGUF files through the real llama.cpp, in its child process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.errors import RunError, UserError
from trainer.checkpoint.opening import OpenedModel, open_model
from trainer.generate.batched.grammar import GrammarText
from trainer.generate.batched.job import Event, Finished, Job, NewToken
from trainer.generate.decoding import generate
from trainer.generate.sampling import Sampling
from trainer.llama_cpp.process import LlamaServer, ServerSettings, launch
from trainer.serve.engine import QueueFullError
from trainer.serve.llama_codec import LlamaCodec
from trainer.serve.llama_cpp import LlamaCppEngine
from trainer.serve.llama_supervisor import LlamaSupervisor
from trainer.serve.opening import open_engine

pytest.importorskip("xllamacpp")

GREEDY = Sampling(temperature=0)
TEXT = "def main(self, value):\n    "


@pytest.fixture(scope="module")
def gguf(run_folder: Path, run_cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    output = run_cli("export", "--checkpoint", run_folder, "--gguf", path, "--quant", "F32")
    assert output.code == 0, output.err
    return path


@pytest.fixture(scope="module")
def model(gguf: Path) -> OpenedModel:
    return open_model(gguf, torch.device("cpu"))


@contextlib.asynccontextmanager
async def engine_of(path: Path, **options: Any) -> AsyncIterator[LlamaCppEngine]:
    engine = LlamaCppEngine(path, **{"threads": 1, "slots": 2, **options})
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def run(engine: LlamaCppEngine, job: Job) -> list[Event]:
    return [event async for event in engine.generate(job)]


def tokens_of(events: list[Event]) -> list[int]:
    return [event.score.token for event in events if isinstance(event, NewToken)]


async def test_it_decodes_as_we_do(gguf: Path, model: OpenedModel) -> None:
    """Greedy, several at once, one after another in the same slots, up to a full context."""
    texts = (TEXT, "import os", "x", "class A:\n" * 4, "é = ")
    ids = [tuple(model.tokenizer.encode(text)) for text in texts]
    jobs = [Job(prompt, 100, GREEDY, top_logprobs=3) for prompt in ids]
    async with engine_of(gguf) as engine:
        assert engine.context == 64
        found = await asyncio.gather(*(run(engine, job) for job in jobs))
        load = engine.load()
    for job, events in zip(jobs, found, strict=True):
        given = tokens_of(events)
        assert events[-1] == Finished("length")
        assert len(job.prompt) + len(given) == 64
        with torch.inference_mode():
            scores = model.model(torch.tensor([[*job.prompt, *given]]))[0].log_softmax(-1)
        for place, event in enumerate(events[:-1], len(job.prompt) - 1):
            best = scores[place].max()
            # The keys are in fp16 there, so of two that are as good either may be taken.
            assert float(scores[place, event.score.token]) >= best - 0.02
            assert event.score.logprob == pytest.approx(
                float(scores[place, event.score.token]), abs=0.02
            )
            assert len(event.score.top) == 3
    assert (load.running, load.waiting, load.capacity) == (0, 0, 2)
    assert load.tokens_generated == sum(len(tokens_of(events)) for events in found)


async def test_it_keeps_to_a_grammar(gguf: Path, model: OpenedModel) -> None:
    prompt = tuple(model.tokenizer.encode(TEXT))
    ends = model.end_ids
    shapes = {
        "json_schema": '{"type": "object", "properties": {"a": {"enum": [1, 2]}},'
        ' "required": ["a"], "additionalProperties": false}',
        "choice": '["yes", "no"]',
        "grammar": 'root ::= "<" [0-9] [0-9] ">"',
    }
    async with engine_of(gguf) as engine:
        for kind, text in shapes.items():
            grammar = engine.grammar(GrammarText(kind, text), ends)  # type: ignore[arg-type]
            events = await run(engine, Job(prompt, 40, GREEDY, stop_ids=ends, grammar=grammar))
            said = model.tokenizer.decode(tokens_of(events))
            if kind == "json_schema" and events[-1] == Finished("stop"):
                assert json.loads(said)["a"] in (1, 2)
            elif kind != "json_schema":
                assert re.fullmatch("yes|no|<[0-9]{2}>", said)
                assert events[-1] == Finished("stop")
        with pytest.raises(UserError, match="cannot follow a regular expression"):
            engine.grammar(GrammarText("regex", "a+"), ends)
        wrong = engine.grammar(GrammarText("grammar", "root ::= nowhere"), ends)
        with pytest.raises(UserError, match="cannot follow the grammar"):
            await run(engine, Job(prompt, 4, GREEDY, grammar=wrong))
        with pytest.raises(UserError, match="no embeddings here"):
            await run(engine, Job(prompt, 0, embed=True))
        assert tokens_of(await run(engine, Job(prompt, 4, GREEDY)))


async def test_settings_reach_it(gguf: Path, model: OpenedModel) -> None:
    job = Job(tuple(model.tokenizer.encode(TEXT)), 12, Sampling(1.5, 0, 1.0), seed=5)
    eos = model.tokenizer.eos_id
    async with engine_of(gguf) as engine:
        first = tokens_of(await run(engine, job))
        assert tokens_of(await run(engine, job)) == first
        assert tokens_of(await run(engine, replace(job, seed=6))) != first
        assert tokens_of(await run(engine, replace(job, seed=None))) != first
        narrow = tokens_of(await run(engine, replace(job, sampling=Sampling(9.0, 1, 1.0))))
        greedy = replace(job, sampling=GREEDY)
        assert narrow == tokens_of(await run(engine, greedy))
        assert narrow == tokens_of(await run(engine, replace(job, sampling=Sampling(9.0, 0, 1e-6))))
        letter = model.tokenizer.encode("Q")[0]
        biased = replace(greedy, logit_bias={letter: 200.0})
        assert tokens_of(await run(engine, biased)) == [letter] * 12
        penalised = replace(biased, frequency_penalty=2.0, logit_bias={letter: 3.0})
        assert tokens_of(await run(engine, penalised)).count(letter) < 12
        ended = replace(biased, stop_ids=frozenset([letter]))
        assert await run(engine, ended) == [Finished("stop")]
        over = replace(greedy, logit_bias={eos: 200.0}, stop_ids=frozenset([eos]))
        assert await run(engine, over) == [Finished("stop")]
        assert len(tokens_of(await run(engine, replace(over, stop_ids=frozenset())))) == 12
        assert await run(engine, replace(job, max_new_tokens=0)) == [Finished("length")]


async def test_characters_of_several_tokens_come_whole(gguf: Path, model: OpenedModel) -> None:
    """llama.cpp keeps the ids of a character's first bytes to itself; the text is whole."""
    lead, trail = model.tokenizer.encode("é")
    job = Job(tuple(model.tokenizer.encode(TEXT)), 40, Sampling(1.0, 0, 1.0), seed=1)
    both = replace(job, logit_bias={lead: 100.0, trail: 100.0})
    async with engine_of(gguf) as engine:
        given = tokens_of(await run(engine, both))
    text = model.tokenizer.decode_bytes(given).decode("utf-8", "replace")
    assert "é" in text
    assert set(text) <= {"é", "\ufffd"}


async def test_prompts_are_not_scored(gguf: Path) -> None:
    async with engine_of(gguf) as engine:
        with pytest.raises(UserError, match="cannot score a prompt"):
            await run(engine, Job((1, 2), 1, score_prompt=True))
        for job, named in (
            (Job((), 1), "empty"),
            (Job((1, 9999), 1), "id 9999"),
            (Job((1,) * 65, 1), "65 tokens"),
        ):
            with pytest.raises(UserError, match=named):
                await run(engine, job)


async def test_leaving_frees_the_place_and_a_full_queue_refuses(gguf: Path) -> None:
    job = Job((100, 101), 50, GREEDY)
    async with engine_of(gguf, slots=1, queue_limit=1) as engine:
        leaving = engine.generate(job)
        await anext(leaving)
        waiting = asyncio.create_task(run(engine, job))
        while engine.load().waiting == 0:
            await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await run(engine, job)
        assert engine.load().running == 1
        await leaving.aclose()
        assert len(tokens_of(await waiting)) == 50
        assert engine.load().running == 0


class Launched:
    """Starts llama.cpp, and remembers what it has started."""

    def __init__(self) -> None:
        self.servers: list[LlamaServer] = []

    def __call__(self, settings: ServerSettings) -> LlamaServer:
        self.servers.append(launch(settings))
        return self.servers[-1]

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        os.kill(self.servers[-1].pid, signal.SIGKILL)
        self.servers[-1].last_words()  # waits for the end


@pytest.mark.slow
async def test_its_death_is_told_and_the_next_job_starts_it_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    context, now, launched = 1 << 15, 1000.0, Launched()
    path = write_sentence_piece(tmp_path / "long.gguf", context=context)
    job = Job((100, 101), 20, GREEDY, logit_bias={105: 1000.0})
    # An answer of more bytes than the sockets between us can hold: it cannot be complete when
    # llama.cpp dies, however fast that is and however slow we are.
    endless = replace(job, max_new_tokens=context, top_logprobs=20)
    async with engine_of(path, context=context, launcher=launched, clock=lambda: now) as engine:
        whole = await run(engine, job)
        assert tokens_of(whole) == [105] * 20
        events = engine.generate(endless)
        await anext(events)
        launched.kill()
        with pytest.raises(RunError, match=r"llama\.cpp has ended: signal 9"):
            async for _ in events:
                pass
        assert await asyncio.gather(run(engine, job), run(engine, job)) == [whole, whole]
        assert capfd.readouterr().err.count("and is started again") == 1
        launched.kill()
        with pytest.raises(RunError, match="may be started again in"):
            await run(engine, job)
        now += 1000
        assert await run(engine, job) == whole
        assert engine.load().running == 0
        assert len(launched.servers) == 3


class Dead:
    """A server that has ended as soon as it was started."""

    alive = False

    def last_words(self) -> str:
        return "signal 9"

    def end(self) -> None:
        pass


def test_pauses_between_starts_double(tmp_path: Path) -> None:
    now, starts = 1000.0, 0

    def start(_settings: ServerSettings) -> Any:
        nonlocal starts
        starts += 1
        return Dead()

    settings = ServerSettings(tmp_path / "model.gguf", context=64)
    llama = LlamaSupervisor(settings, launcher=start, clock=lambda: now)
    llama.start()
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        llama.running()
        words = "in a second" if pause == 1 else f"in {pause} seconds"
        with pytest.raises(RunError, match=f"may be started again {words}"):
            llama.running()
        now += pause
    assert starts == 9
    now += 61
    llama.running()
    with pytest.raises(RunError, match="in a second"):
        llama.running()
    llama.stop()
    now += 61
    with pytest.raises(RunError, match="was stopped"):
        llama.running()
    assert starts == 10


async def test_a_prompt_that_leaves_no_place_is_the_clients_mistake(gguf: Path) -> None:
    async with engine_of(gguf) as engine:
        for length in (64, 65):
            with pytest.raises(UserError, match=f"has {length} tokens and the context is 64"):
                await run(engine, Job((5,) * length, 5, GREEDY))
        assert len(tokens_of(await run(engine, Job((5,) * 63, 5, GREEDY)))) == 1
        assert await run(engine, Job((5,) * 64, 0)) == [Finished("length")]


async def test_a_file_it_cannot_load(gguf: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(gguf.read_bytes().replace(b"output_norm.weight", b"output_norm.weighs"))
    engine = LlamaCppEngine(damaged)
    with pytest.raises(RunError, match=r"llama\.cpp cannot load"):
        await engine.start()
    await engine.close()


async def test_it_ends_with_us(gguf: Path) -> None:
    """A server that is killed leaves no llama.cpp behind."""
    code = (
        "import asyncio, pathlib\n"
        "from trainer.llama_cpp.process import launch\n"
        "from trainer.serve.llama_cpp import LlamaCppEngine\n"
        "def told(settings):\n"
        "    server = launch(settings)\n"
        "    print(server.pid, flush=True)\n"
        "    return server\n"
        "async def main():\n"
        f"    path = pathlib.Path({str(gguf)!r})\n"
        "    engine = LlamaCppEngine(path, slots=1, threads=1, launcher=told)\n"
        "    await engine.start()\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(child).wait(120)
    assert not psutil.pid_exists(child)


async def test_its_own_vocabulary(gguf: Path, model: OpenedModel) -> None:
    """The codec for kinds that we cannot read agrees with ours on one that we can."""
    from trainer.formats.gguf_parsing import open_gguf

    llama = LlamaSupervisor(ServerSettings(gguf, context=64, threads=1))
    await asyncio.to_thread(llama.start)
    try:
        codec = LlamaCodec(open_gguf(gguf), llama)
        assert codec.eos_id == model.tokenizer.eos_id
        for text in ("", "def é", "naïve 😀\n", model.tokenizer.eos_token, "\ud800"):
            assert codec.encode(text) == model.tokenizer.encode(text.replace("\ud800", "?"))
            ids = codec.encode(text, allow_special=True)
            assert ids == model.tokenizer.encode(text.replace("\ud800", "?"), allow_special=True)
            for skip in (False, True):
                ours = model.tokenizer.decode_bytes(ids, skip_special=skip)
                assert codec.decode_bytes(ids, skip_special=skip) == ours
    finally:
        llama.stop()
    assert LlamaCppEngine(gguf).end_ids == model.end_ids


def write_sentence_piece(path: Path, context: int = 64) -> Path:
    """A Llama with a vocabulary of SentencePiece's kind, as those of Llama 2 are."""
    from gguf import GGUFWriter

    from trainer.config.model import ModelConfig
    from trainer.formats.gguf_names import gguf_tensors
    from trainer.formats.gguf_writing import StoredTensor, add_general, add_shape, gguf_chunks
    from trainer.model.language_model import LanguageModel

    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["\u2581", "\u2581the", "t", "h", "e", "th", "\u2581t", "\u2581th", "é", "x"]
    kinds = [2, 3, 3, *[6] * 256, *[1] * 10]
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 1, "num_heads": 2}
    config = ModelConfig(vocab_size=len(tokens), max_seq_len=context, **shape)
    model = LanguageModel(config)
    model.initialize(0)
    writer = GGUFWriter(None, "llama")
    add_general(writer, "pieces", "F32")
    add_shape(writer, config)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(place) for place in range(len(tokens))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    weights = model.state_dict()
    stored = [
        StoredTensor(
            tensor.gguf_name,
            tensor.gguf_shape,
            "F32",
            lambda tensor=tensor: tensor.to_gguf(weights[tensor.name].numpy()),
        )
        for tensor in gguf_tensors(config)
    ]
    path.write_bytes(b"".join(gguf_chunks(writer, stored)))
    return path


@pytest.mark.slow
async def test_a_vocabulary_that_only_llama_cpp_can_split(tmp_path: Path) -> None:
    path = write_sentence_piece(tmp_path / "pieces.gguf")
    async with engine_of(path) as engine:
        codec = engine.codec
        assert isinstance(codec, LlamaCodec)
        assert codec.eos_id == 2
        for text in ("the thé", "x\n日本 😀", " the"):
            # This kind of tokenizer puts a space before the text.
            assert codec.decode_bytes(codec.encode(text)).decode() == f" {text}"
        assert codec.decode_bytes([1, 260, 2]) == b"<s> the</s>"
        assert codec.decode_bytes([1, 260, 2], skip_special=True) == b" the"
        job = Job(tuple(codec.encode("the x")), 20, Sampling(1.0, 0), seed=1)
        given = tokens_of(await run(engine, job))
        assert len(given) >= 5
        letter = codec.encode("é")[-1]
        biased = replace(job, max_new_tokens=3, sampling=GREEDY, logit_bias={letter: 100.0})
        assert codec.decode_bytes(tokens_of(await run(engine, biased))).decode() == "ééé"


# Which engine


def test_the_engine_is_chosen_by_what_is_there(gguf: Path, run_folder: Path) -> None:
    assert open_engine(gguf).kind == "llama.cpp"
    assert open_engine(gguf, engine="torch", slots=1).kind == "torch"
    assert open_engine(run_folder, slots=1).kind == "torch"
    with pytest.raises(UserError, match="trainer export --gguf"):
        open_engine(run_folder, engine="llama.cpp")
    assert open_engine(gguf, slots=1, with_llama_cpp=False).kind == "torch"
    with pytest.raises(UserError, match=r'pip install "train-monitor\[llama\]"'):
        open_engine(gguf, engine="llama.cpp", with_llama_cpp=False)


async def test_our_own_engine_reads_the_file_too(gguf: Path, model: OpenedModel) -> None:
    prompt = tuple(model.tokenizer.encode(TEXT))
    opened = open_engine(gguf, engine="torch", device="cpu", slots=1, threads=1)
    await opened.engine.start()
    events = [event async for event in opened.engine.generate(Job(prompt, 10, GREEDY))]
    await opened.engine.close()
    expected = generate(model.model, prompt, 10, GREEDY, allowed_ids=model.tokenizer.vocab_size)
    assert tokens_of(events) == list(expected)
