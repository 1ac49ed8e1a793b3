"""Starting llama.cpp's server as a child process, asking it over loopback, and ending it."""

from __future__ import annotations

import importlib.util
import json
import queue
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from shared.errors import RunError, UserError
from shared.temporaries import temporary_place
from shared.text import one_line

START_SECONDS = 120.0  # for a small file on a busy machine
SLOWEST_DISK = 20e6  # bytes per second; a large file gets this much longer to load
PROGRESS_SECONDS = 10.0  # between two lines about a load that takes long
ANSWER_SECONDS = 600.0
NOT_INSTALLED = 'llama.cpp is not installed: `pip install "train-monitor[llama]"`.'

_COMMAND = (sys.executable, "-m", "trainer.llama_cpp.server")
_WORDS = 1 << 16  # bytes of the end of its log that are searched for the error
_LOG_PREFIX = re.compile(r"^[\d.]+ [A-Z] (?:[\w.-]+ +)*[\w.-]+: *")  # time, level, function
#: Where llama.cpp says what is wrong, the most telling first.
_TELLING = (
    re.compile(r"error loading model: *(.+)"),
    re.compile(r"((?:GGML_ASSERT|GGML_ABORT).*|.* GGML_ASSERT.*)"),
    re.compile(r"what\(\): *(.+)"),
    re.compile(r"^[\d.]+ E (?!common_fit_params)(?:[\w.-]+ +)*[\w.-]+: *(.+)", re.MULTILINE),
)

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


def seconds_to_load(size: int) -> float:
    """How long a file of `size` bytes may take to load."""
    return START_SECONDS + size / SLOWEST_DISK


def launch(
    settings: ServerSettings,
    *,
    stopping: threading.Event | None = None,
    seconds: float | None = None,
    every: float = PROGRESS_SECONDS,
    command: Sequence[str] = _COMMAND,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> LlamaServer:
    """Load the file and wait until the server listens.

    `tell` gets a line `every` few seconds meanwhile. Raises RunError in llama.cpp's own words if it
    cannot load the file, if it takes more than `seconds`, or when `stopping` is set. The default
    limit depends on the file's size. `command` is the child process.
    """
    key = secrets.token_urlsafe(24)
    # Closed when the process ends.
    words = tempfile.TemporaryFile(dir=temporary_place())  # noqa: SIM115
    process = subprocess.Popen(
        command,
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
    name = one_line(settings.path)
    try:
        limit = seconds_to_load(settings.path.stat().st_size) if seconds is None else seconds
        first_line = _first_line(process, json.dumps(asked).encode() + b"\n")
        begun = time.monotonic()
        told = begun + every
        while (address := _wait(first_line)) is None:
            now = time.monotonic()
            if stopping is not None and stopping.is_set():
                raise RunError("llama.cpp was stopped.")
            if now >= begun + limit:
                raise RunError(
                    f"llama.cpp has not loaded {name} within {limit:.0f} seconds and was ended."
                )
            if now >= told:
                told = now + every
                tell(
                    f"trainer: llama.cpp has been loading {name} for {now - begun:.0f} seconds "
                    f"(the limit is {limit:.0f})."
                )
        if not address.startswith("http"):
            said = _last_words(process, words).rstrip(".")
            raise RunError(f"llama.cpp cannot load {name}: {said}.")
    except OSError as error:
        _end(process, words)
        raise RunError(f"llama.cpp cannot load {name}: {error.strerror}.") from error
    except BaseException:
        _end(process, words)
        raise
    return LlamaServer(process, words, address, key)


def _first_line(process: subprocess.Popen[bytes], settings: bytes) -> queue.SimpleQueue[bytes]:
    """Send the settings; the queue gets what the process prints first, empty if it ends before."""
    assert process.stdin is not None and process.stdout is not None
    first_line: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    try:
        process.stdin.write(settings)
        process.stdin.flush()
    except BrokenPipeError:
        first_line.put(b"")
        return first_line
    read = process.stdout.readline
    threading.Thread(target=lambda: first_line.put(read()), daemon=True).start()
    return first_line


def _wait(first_line: queue.SimpleQueue[bytes]) -> str | None:
    """The address if it comes soon, else None."""
    try:
        return first_line.get(timeout=0.2).decode("utf-8", "replace").strip()
    except queue.Empty:
        return None


def _last_words(process: subprocess.Popen[bytes], words: IO[bytes]) -> str:
    code = process.wait()
    how = f"signal {-code}" if code < 0 else f"exit status {code}"
    try:
        size = words.seek(0, 2)
        words.seek(max(0, size - _WORDS))
        said = words.read().decode("utf-8", "replace")
    except ValueError:  # closed by `end` in another thread
        return how
    error = error_line(said)
    return f"{error} ({how})" if error else how


def error_line(log: str) -> str:
    """What llama.cpp's log says about its failure, without time and function names; or nothing."""
    for telling in _TELLING:
        if found := telling.search(log):
            return one_line(found[1], 300)
    lines = [line for line in log.strip().splitlines() if not line.startswith(" ")]
    if not lines or lines[-1] == "Traceback (most recent call last):":
        return ""
    return one_line(_LOG_PREFIX.sub("", lines[-1]), 300)


def _end(process: subprocess.Popen[bytes], words: IO[bytes]) -> None:
    process.kill()
    process.communicate()
    words.close()
