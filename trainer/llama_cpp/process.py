"""Starting llama.cpp's server as a child process, asking it over loopback, and ending it."""

from __future__ import annotations

import importlib.util
import json
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from shared.errors import RunError, UserError
from shared.text import one_line

START_SECONDS = 600.0  # for a large file on a slow disk
ANSWER_SECONDS = 600.0
NOT_INSTALLED = 'llama.cpp is not installed: `pip install "train-monitor[llama]"`.'

# A proxy must not come between us and our own child.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def llama_cpp_installed() -> bool:
    """Whether llama.cpp can be run."""
    return importlib.util.find_spec("xllamacpp") is not None


def check_installed() -> None:
    """Raise UserError if llama.cpp is not installed."""
    if not llama_cpp_installed():
        raise UserError(NOT_INSTALLED)


@dataclass(frozen=True)
class ServerSettings:
    """A GGUF file and how to run it: `slots` sequences at once, `context` tokens each.

    `exact` computes as torch does, for comparing numbers, instead of as fast as possible.
    `threads` None leaves the number to llama.cpp.
    """

    path: Path
    context: int
    slots: int = 1
    threads: int | None = None
    exact: bool = False


class LlamaServer:
    """A running server. It answers requests that carry its `headers`."""

    def __init__(
        self, process: subprocess.Popen[bytes], words: IO[bytes], address: str, key: str
    ) -> None:
        self._process = process
        self._words = words
        self.address = address
        self.headers = {"Authorization": f"Bearer {key}"}

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def ask(self, path: str, body: dict[str, Any], seconds: float = ANSWER_SECONDS) -> Any:
        """The answer to a request. Raises RunError if it is refused or does not come."""
        request = urllib.request.Request(
            self.address + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", **self.headers},
        )
        try:
            with _open(request, timeout=seconds) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = one_line(error.read(1000).decode("utf-8", "replace"))
            raise RunError(f"llama.cpp refused the request: {said}.") from error
        except (OSError, ValueError) as error:
            raise self.failure(error) from error

    def failure(self, error: Exception) -> RunError:
        """The error to raise for a request that failed with `error`."""
        if self.alive:
            words = one_line(error) or type(error).__name__
            return RunError(f"llama.cpp does not answer: {words}.")
        return RunError(f"llama.cpp has ended: {self.last_words()}; try again.")

    def last_words(self) -> str:
        """How the process ended, and the last line it wrote."""
        return _last_words(self._process, self._words)

    def end(self) -> None:
        """Kill the process and wait for it. Does nothing the second time."""
        if not self._words.closed:
            _end(self._process, self._words)


def launch(settings: ServerSettings) -> LlamaServer:
    """Load the file and wait until the server listens.

    Raises RunError with the process's last words if it cannot load the file.
    """
    key = secrets.token_urlsafe(24)
    words = tempfile.TemporaryFile()  # noqa: SIM115  closed when the process ends
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.llama_cpp.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=words,
        start_new_session=True,  # Ctrl-C must not reach it; we end it after its answers
    )
    asked = {
        "path": str(settings.path.resolve()),
        "context": settings.context,
        "slots": settings.slots,
        "threads": settings.threads,
        "exact": settings.exact,
        "key": key,
    }
    try:
        address = _address(process, json.dumps(asked).encode() + b"\n")
        if address is None:
            raise RunError(f"llama.cpp took too long to load {one_line(settings.path)}.")
        if not address.startswith("http"):
            said = _last_words(process, words).rstrip(".")
            raise RunError(f"llama.cpp cannot load {one_line(settings.path)}: {said}.")
    except BaseException:
        _end(process, words)
        raise
    return LlamaServer(process, words, address, key)


def _address(process: subprocess.Popen[bytes], settings: bytes) -> str | None:
    """What the process prints first; empty if it ends before, None if it takes too long."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(settings)
        process.stdin.flush()
    except BrokenPipeError:
        return ""
    first_line: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    read = process.stdout.readline
    threading.Thread(target=lambda: first_line.put(read()), daemon=True).start()
    try:
        return first_line.get(timeout=START_SECONDS).decode().strip()
    except queue.Empty:
        return None


def _last_words(process: subprocess.Popen[bytes], words: IO[bytes]) -> str:
    code = process.wait()
    how = f"signal {-code}" if code < 0 else f"exit status {code}"
    try:
        words.seek(0)
        lines = words.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
    except ValueError:  # closed by `end` in another thread
        return how
    return f"{how}, {one_line(lines[-1], 200)}" if lines else how


def _end(process: subprocess.Popen[bytes], words: IO[bytes]) -> None:
    process.kill()
    process.communicate()
    words.close()
