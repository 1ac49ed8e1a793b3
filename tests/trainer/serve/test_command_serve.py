"""`trainer serve` as people start it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from tests.waiting import SECONDS

Start = Callable[..., "Process"]


class Process:
    """A server in a process of its own."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "trainer", "serve", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"TRAINER_API_KEY": ""} | environment
            if environment
            else {k: v for k, v in os.environ.items() if k != "TRAINER_API_KEY"},
        )
        self.lines: list[str] = []
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.lines.append(line.rstrip("\n"))
            if found := re.search(r" at (http://\S+) ", line):
                self.url = found.group(1)
                break
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        self.lines += [line.rstrip("\n") for line in self.popen.stdout]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the exit code."""
        self.popen.send_signal(number)
        code = self.popen.wait(120)
        self._reader.join(SECONDS)
        return code


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `trainer serve ARGUMENTS…` on a free port and wait until it answers."""
    started: list[Process] = []

    def begin(*arguments: object, **environment: str) -> Process:
        process = Process(*arguments, "--port", 0, "--threads", 1, **environment)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.popen.kill()
        process.popen.wait()


def test_two_flags_suffice(start: Start, run_folder: Path) -> None:
    """The production guide: `--model`, `--port`, and its curl."""
    server = start("--model", run_folder)
    assert server.lines == [f"Serving {run_folder.name} at {server.url} (Ctrl-C stops it)"]
    assert server.url.startswith("http://127.0.0.1:")
    body = {"messages": [{"role": "user", "content": "Write a Rust function"}], "max_tokens": 5}
    answer = httpx2.post(f"{server.url}/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.json()["model"] == run_folder.name
    assert answer.json()["usage"]["completion_tokens"] <= 5
    assert httpx2.get(f"{server.url}/").status_code == 200
    assert server.end() == 0
    log = server.lines[1:]
    assert [line.split()[1:4] for line in log] == [
        ["POST", "/v1/chat/completions", "200"],
        ["GET", "/", "200"],
    ]


def test_its_settings_hold(start: Start, run_folder: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("from-file\n")
    server = start(
        "--model", "tiny",
        "--runs-dir", run_folder.parent,
        "--served-name", "my/model",
        "--served-name", "gpt-4o-mini",
        "--slots", 2,
        "--context", 32,
        "--max-tokens-limit", 8,
        "--engine", "torch",
        "--precision", "fp32",
        "--tokenizer", run_folder / "checkpoints" / "final",
        "--device", "cpu",
        "--api-key-file", key,
        TRAINER_API_KEY="from-env",
    )  # fmt: skip
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="from-file", max_retries=0)
    model, other = client.models.list().data
    assert (model.id, model.max_model_len) == ("my/model", 32)
    assert other.id == "gpt-4o-mini"
    for name in ("gpt-4o-mini", "my/model"):
        answer = client.completions.create(model=name, prompt="a", max_tokens=1)
        assert answer.model == "my/model"
    assert client.models.retrieve("my/model").id == "my/model"
    assert httpx2.get(f"{server.url}/health").json()["capacity"] == 2
    with pytest.raises(openai.BadRequestError, match="at most 8"):
        client.completions.create(model="my/model", prompt="a", max_tokens=9)
    with pytest.raises(openai.BadRequestError, match="context is 32"):
        client.completions.create(model="my/model", prompt="a" * 33, max_tokens=1)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="from-env").models.list()
    assert server.end(signal.SIGINT) == 0
    assert "from-file" not in "\n".join(server.lines)


def test_a_folder_of_transformers_for_everybody_with_a_warning(
    start: Start, run_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "plain-model"
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((run_folder / "checkpoints/final" / name).read_bytes())
    server = start("--model", folder, "--host", "0.0.0.0")
    assert server.lines[0].startswith("trainer: anyone who can reach 0.0.0.0 can use this model")
    port = server.url.rpartition(":")[2]
    # Who listens to all is called by any name.
    url = f"http://127.0.0.1:{port}/v1/models"
    answer = httpx2.get(url, headers={"host": "other.example"})
    assert [model["id"] for model in answer.json()["data"]] == ["plain-model"]


def test_a_gguf_file_through_llama_cpp(
    start: Start, run_cli, run_folder: Path, tmp_path: Path, client: openai.OpenAI
) -> None:
    pytest.importorskip("xllamacpp")
    file = tmp_path / "small.gguf"
    output = run_cli("export", "--checkpoint", run_folder, "--gguf", file)
    assert output.code == 0, output.err
    server = start("--model", file, "--precision", "fp16")
    assert server.lines[0] == "trainer: --precision has no effect with llama.cpp."
    other = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    ask = {"prompt": "import ", "max_tokens": 12, "temperature": 0, "logprobs": 1}
    theirs = other.completions.create(model="small", **ask)
    assert theirs.usage.prompt_tokens == 7
    # Its keys are in fp16, so of two tokens that are nearly as likely it may take either: our
    # engine must find every token that it took about as likely as the best one.
    whole = {"prompt": "import " + theirs.choices[0].text, "max_tokens": 0, "echo": True}
    scored = client.completions.create(model="tiny", logprobs=1, **whole).choices[0].logprobs
    ours = list(zip(scored.token_logprobs, scored.top_logprobs, strict=True))[7:]
    assert len(ours) == theirs.usage.completion_tokens == 12
    for (own, best), said in zip(ours, theirs.choices[0].logprobs.token_logprobs, strict=True):
        assert own == pytest.approx(said, abs=0.05)
        assert own >= max(best.values()) - 0.05
    talk = [{"role": "user", "content": "hi"}]
    pieces = list(
        other.chat.completions.create(model="small", messages=talk, max_tokens=4, stream=True)
    )
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-1].choices[0].finish_reason in ("length", "stop")
    assert server.end() == 0


def test_a_port_in_use(run_cli, run_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        output = run_cli("serve", "--model", run_folder, "--port", port)
    assert output.code == 1
    assert output.err == (
        f"trainer: Cannot listen on 127.0.0.1 port {port}: Address already in use; choose another "
        "with --port.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--port", 70000), 2, "--port is 70000; it must be between 0 and 65535"),
        (("--slots", 0), 2, "--slots is 0"),
        (("--queue", -1), 2, "--queue is -1"),
        (("--timeout", 0), 2, "--timeout is 0"),
        (("--context", 65), 2, "--context is 65"),
        (("--engine", "magic"), 2, "it must be auto, torch or llama.cpp"),
        (("--precision", "int8"), 2, "it must be fp32, fp16 or bf16"),
        (("--served-name", "a\nb"), 2, "--served-name has unprintable"),
        (("--served-name", "a", "--served-name", ""), 2, "--served-name is empty"),
        (("--host", "no.such.host.invalid"), 1, "is not an address of this machine"),
        (("--api-key-file", "/no/such/key"), 2, "--api-key-file /no/such/key cannot be read"),
        (("--api-key", "secret"), 2, "--api-key"),
    ],
)
def test_wrong_use_is_one_sentence(run_cli, run_folder, arguments, code, told) -> None:
    output = run_cli("serve", "--port", 0, "--model", run_folder, *arguments)
    assert output.code == code
    assert told in output.err
    assert output.err.startswith("trainer: ")
    assert output.err.count("\n") == 1


def test_no_model(run_cli, tmp_path: Path) -> None:
    for reference in (tmp_path / "nothing", "no-such-run"):
        output = run_cli("serve", "--port", 0, "--model", reference, "--runs-dir", tmp_path)
        assert output.code in (1, 2)
        assert output.err.count("\n") == 1
