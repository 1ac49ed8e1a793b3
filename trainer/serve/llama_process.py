"""llama.cpp's server as a child process: started with a secret, asked over loopback, ended.

When it dies, for want of memory or by an abort of its own, the next who needs it starts it again:
at once the first time, and then after pauses that double, so that a file or a request which always
kills it does not keep the machine busy.
"""

from __future__ import annotations

import importlib.util
import json
import math
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any

from shared.errors import RunError, UserError
from shared.text import one_line

ANSWER_SECONDS = 60.0
PAUSE = 1.0  # seconds between two starts
LONGEST_PAUSE = 60.0  # who lives longer than that begins with a short pause again

# No proxy stands between us and our own child.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def llama_cpp_installed() -> bool:
    """Whether there is a llama.cpp to run."""
    return importlib.util.find_spec("xllamacpp") is not None


class LlamaProcess:
    """The process. Not started by the constructor."""

    def __init__(self, path: Path) -> None:
        if not llama_cpp_installed():
            raise UserError(
                'llama.cpp is not installed; `pip install "train-monitor[llama]"` brings it.'
            )
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None
        self._words: IO[bytes] | None = None
        self._settings: dict[str, Any] | None = None
        self._reviving = threading.Lock()
        self._pause = PAUSE
        self._not_before = 0.0  # when it may be started again, in monotonic seconds
        self.address = ""
        self.headers: dict[str, str] = {}

    def start(self, *, slots: int, context: int, threads: int | None) -> None:
        """Load the file and wait until it is served.

        Raises RunError with the process's last words when it cannot.
        """
        self._settings = {
            "path": str(self._path.resolve()),
            "slots": slots,
            "context": context,
            "threads": threads,
        }
        self._launch(self._settings)

    @property
    def serving(self) -> bool:
        """Whether it answers at `address`: it has started and not ended."""
        return bool(self.address) and not self._ended

    @property
    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def revive(self) -> None:
        """Start it again if it has ended. Raises RunError when it is too early, or in vain."""
        with self._reviving:
            if self.serving:
                return
            if self._settings is None:
                raise RunError("llama.cpp was stopped.")
            wait = self._not_before - time.monotonic()
            if wait > 0:
                seconds = f"in {math.ceil(wait)} seconds" if wait > 1 else "in a second"
                raise RunError(f"llama.cpp has ended; it may be started again {seconds}.")
            self._pause = PAUSE if -wait > LONGEST_PAUSE else min(2 * self._pause, LONGEST_PAUSE)
            print(
                f"trainer: llama.cpp has ended ({self.last_words()}) and is started again.",
                file=sys.stderr,
                flush=True,
            )
            self._end()
            try:
                self._launch(self._settings)
            finally:
                self._not_before = time.monotonic() + self._pause

    def _launch(self, settings: dict[str, Any]) -> None:
        key = secrets.token_urlsafe(24)
        self._words = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trainer.serve.llama_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            start_new_session=True,  # Ctrl-C is for us; we end it when its answers are given
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(settings | {"key": key}).encode() + b"\n")
            self._process.stdin.flush()
            address = self._process.stdout.readline().decode().strip()
        except BrokenPipeError:
            address = ""
        if not address.startswith("http"):
            said = self.last_words()
            self._end()
            raise RunError(f"llama.cpp cannot load {one_line(self._path)}: {said.rstrip('.')}.")
        self.headers = {"Authorization": f"Bearer {key}"}
        self.address = address

    def stop(self) -> None:
        """End the process for good and wait for it."""
        self._settings = None
        self._end()

    def _end(self) -> None:
        self.address = ""
        if self._process:
            self._process.kill()
            self._process.communicate()
        if self._words:
            self._words.close()
        self._process = self._words = None

    def failure(self, error: Exception) -> RunError:
        """What to tell when a request failed with `error`."""
        if self._ended:
            return RunError(f"llama.cpp has ended: {self.last_words()}; try again.")
        return RunError(f"llama.cpp does not answer: {one_line(error) or type(error).__name__}.")

    def last_words(self) -> str:
        """The last line the process said, or how it ended."""
        process, words = self._process, self._words  # another thread may start it again
        if process is None or words is None:
            return "it was stopped"
        code = process.wait()
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        try:
            words.seek(0)
            lines = words.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
        except ValueError:  # closed meanwhile
            return how
        return f"{how}, {one_line(lines[-1], 200)}" if lines else how

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """The answer of a small request, waited for. Raises RunError."""
        self.revive()
        request = urllib.request.Request(
            self.address + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", **self.headers},
        )
        try:
            with _open(request, timeout=ANSWER_SECONDS) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            raise self.failure(error) from error
