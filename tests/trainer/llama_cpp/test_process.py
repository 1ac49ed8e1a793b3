"""llama.cpp's process: it ends with its parent, loads within a limit, and says what is wrong."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from shared.errors import RunError
from tests.trainer.export.conftest import export_gguf, make_model, make_tokenizer
from tests.waiting import until
from trainer.checkpoint.opening import OpenedModel
from trainer.generate.batched.job import Finished, Job, NewToken
from trainer.generate.sampling import NOT_FINITE, Sampling
from trainer.llama_cpp.process import ServerSettings, error_line, launch, seconds_to_load
from trainer.serve.llama_cpp import LlamaCppEngine
from trainer.serve.opening import open_engine

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.slow

ENDLESS = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)
#: A child that reads its settings as ours does, then never lets Python run again.
STUCK = (
    "import sys, re\n"
    "from trainer.llama_cpp.server import end_with\n"
    "sys.stdin.readline()\n"
    "end_with(0)\n"
    "re.match('(x+x+)+y', 'x' * 99)\n"
)
#: A parent whose child is loading.
LOADING = (
    "import pathlib, signal, sys, threading\n"
    "from trainer.llama_cpp.process import ServerSettings, launch\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "settings = ServerSettings(pathlib.Path(sys.executable), 64)\n"
    f"command = [sys.executable, '-c', {STUCK!r}]\n"
    "print('begun', flush=True)\n"
    "launch(settings, command=command, seconds=1e6)\n"
)
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> OpenedModel:
    torch.manual_seed(0)
    return OpenedModel(make_model("llama"), make_tokenizer("qwen2"), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def gguf(opened: OpenedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(opened, tmp_path_factory.mktemp("gguf") / "model.gguf")


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # where nobody waits for orphans
    except psutil.NoSuchProcess:
        return True


def child_of(parent: subprocess.Popen[str]) -> psutil.Process:
    return until(lambda: next(iter(psutil.Process(parent.pid).children()), None))


def computing(process: psutil.Process) -> bool:
    """Whether it is in its endless expression: its own start takes less."""
    return sum(process.cpu_times()[:2]) > 2


@pytest.mark.parametrize("number", SIGNALS)
def test_a_child_that_loads_ends_with_its_parent(number: signal.Signals) -> None:
    command = [sys.executable, "-c", LOADING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        child = child_of(parent)
        until(lambda: computing(child))
        parent.send_signal(number)
        parent.communicate()
    until(lambda: gone(child))


@pytest.mark.parametrize("number", SIGNALS)
def test_serve_leaves_no_llama_cpp_behind(number: signal.Signals, gguf: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "trainer",
        "serve",
        "--model",
        str(gguf),
        "--port",
        "0",
        "--threads",
        "1",
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert "Serving" in parent.stdout.readline()
        child = child_of(parent)
        parent.send_signal(number)
        parent.communicate()
    until(lambda: gone(child))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_can_be_stopped_while_llama_cpp_loads(number: signal.Signals, gguf: Path) -> None:
    code = (
        "import asyncio, functools, pathlib, signal, sys, threading\n"
        "from trainer.llama_cpp.process import launch, ServerSettings\n"
        "from trainer.serve.llama_supervisor import LlamaSupervisor\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"command = [sys.executable, '-c', {STUCK!r}]\n"
        "stopping = threading.Event()\n"
        "starter = functools.partial(launch, stopping=stopping, command=command, seconds=1e6)\n"
        "async def main():\n"
        "    try:\n"
        f"        settings = ServerSettings(pathlib.Path({str(gguf)!r}), 64)\n"
        "        print('begun', flush=True)\n"
        "        await asyncio.to_thread(starter, settings)\n"
        "    finally:\n"
        "        stopping.set()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        child = child_of(parent)
        parent.send_signal(number)
        parent.communicate()  # it ends, although loading would not
    until(lambda: gone(child))


def test_loading_has_a_limit_and_tells_how_it_goes(gguf: Path) -> None:
    said: list[str] = []
    with pytest.raises(RunError, match=r"has not loaded .*model\.gguf within 1 seconds"):
        launch(
            ServerSettings(gguf, 64),
            command=[sys.executable, "-c", STUCK],
            seconds=1,
            every=0.3,
            tell=said.append,
        )
    assert said
    assert all("model.gguf" in line for line in said)
    assert seconds_to_load(10**10) > 500 > seconds_to_load(10**6)


def test_stopping_ends_a_load(gguf: Path) -> None:
    stopping = threading.Event()
    stopping.set()
    command = [sys.executable, "-c", STUCK]
    with pytest.raises(RunError, match="was stopped"):
        launch(ServerSettings(gguf, 64), stopping=stopping, command=command, seconds=1e6)


def test_an_endless_chat_template_does_not_hang_the_load(
    opened: OpenedModel, tmp_path: Path
) -> None:
    endless = dataclasses.replace(opened, chat_template=ENDLESS)
    server = launch(ServerSettings(export_gguf(endless, tmp_path / "endless.gguf"), 64, threads=1))
    try:
        assert server.ask("/tokenize", {"content": "a"})["tokens"]
    finally:
        server.end()


def test_what_llama_cpp_says_is_quoted(gguf: Path, tmp_path: Path) -> None:
    for name, data, said in (
        ("cut", gguf.read_bytes()[: gguf.stat().st_size // 2], "not within the file bounds"),
        ("pre", gguf.read_bytes().replace(b"qwen2", b"qwenx"), "pre-tokenizer type: 'qwenx'"),
        ("name", gguf.read_bytes().replace(b"output_norm.w", b"output_nurm.w"), "output_norm"),
        ("garbage", b"no model", "failed to load model|magic"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(RunError, match=said) as caught:
            launch(ServerSettings(tmp_path / name, 64, threads=1))
        assert "Traceback" not in str(caught.value)
        assert "input params" not in str(caught.value)  # what the binding says of every failure
    with pytest.raises(RunError, match="No such file"):
        launch(ServerSettings(tmp_path / "none", 64))


def test_the_error_line_of_a_log() -> None:
    assert error_line("0.1 E llama_model_load: error loading model: no tensors\nTraceback") == (
        "no tensors"
    )
    assert error_line("x.cpp:12: GGML_ASSERT(n > 0) failed\n[New LWP 1]") == (
        "x.cpp:12: GGML_ASSERT(n > 0) failed"
    )
    hostile = error_line("0.00.1 W a: b\n0.00.2 E srv    load_model: no \x1b[31mmemory")
    assert hostile.startswith("no ")
    assert "\x1b" not in hostile
    assert error_line("  File 'x'\nImportError: nothing") == "ImportError: nothing"
    assert error_line("") == ""


async def test_nan_weights_give_the_same_error_on_both_engines(gguf: Path, tmp_path: Path) -> None:
    data = bytearray(gguf.read_bytes())
    data[-4000:-3996] = np.float32("nan").tobytes()
    path = tmp_path / "nan.gguf"
    path.write_bytes(data)
    for engine in ("torch", "llama.cpp"):
        running = open_engine(path, engine=engine, slots=1, threads=1).engine
        await running.start()
        try:
            job = Job((1, 2, 3), 8, Sampling(temperature=0))
            with pytest.raises(RunError, match=NOT_FINITE):
                [event async for event in running.generate(job)]
        finally:
            await running.close()


async def test_a_token_forced_against_all_odds_is_no_nan(gguf: Path) -> None:
    engine = LlamaCppEngine(gguf, slots=1, threads=1)
    await engine.start()
    try:
        job = Job((1, 2, 3), 4, logit_bias={7: 100.0}, top_logprobs=2)
        *tokens, end = [event async for event in engine.generate(job)]
    finally:
        await engine.close()
    assert end == Finished("length")
    assert [event.score.token for event in tokens if isinstance(event, NewToken)] == [7] * 4
