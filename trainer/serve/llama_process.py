"""llama.cpp's server as a child process: started with a secret, asked over loopback, ended."""

from __future__ import annotations

import importlib.util
import json
import secrets
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any

from shared.errors import RunError, UserError
from shared.text import one_line

ANSWER_SECONDS = 60.0


def llama_cpp_installed() -> bool:
    """Whether there is a llama.cpp to run."""
    return importlib.util.find_spec("xllamacpp") is not None


class LlamaProcess:
    """The process. Not started by the constructor, and never restarted."""

    def __init__(self, path: Path) -> None:
        if not llama_cpp_installed():
            raise UserError(
                'llama.cpp is not installed; `pip install "train-monitor[llama]"` brings it.'
            )
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None
        self._words: IO[bytes] | None = None
        self.address = ""
        self.headers: dict[str, str] = {}

    def start(self, *, slots: int, context: int, threads: int | None) -> None:
        """Load the file and wait until it is served.

        Raises RunError with the process's last words when it cannot.
        """
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
        settings = {
            "path": str(self._path.resolve()),
            "slots": slots,
            "context": context,
            "threads": threads,
            "key": key,
        }
        try:
            self._process.stdin.write(json.dumps(settings).encode() + b"\n")
            self._process.stdin.flush()
            address = self._process.stdout.readline().decode().strip()
        except BrokenPipeError:
            address = ""
        if not address.startswith("http"):
            said = self.last_words()
            self.stop()
            raise RunError(f"llama.cpp cannot load {one_line(self._path)}: {said}.")
        self.address = address
        self.headers = {"Authorization": f"Bearer {key}"}

    def stop(self) -> None:
        """End the process and wait for it."""
        if self._process:
            self._process.kill()
            self._process.communicate()
        if self._words:
            self._words.close()
        self._process = self._words = None

    def failure(self, error: Exception) -> RunError:
        """What to tell when a request failed with `error`."""
        if self._process is None or self._process.poll() is not None:
            return RunError(f"llama.cpp has ended: {self.last_words()}; start the server again.")
        return RunError(f"llama.cpp does not answer: {one_line(error) or type(error).__name__}.")

    def last_words(self) -> str:
        """The last line the process said, or how it ended."""
        if self._process is None or self._words is None:
            return "it was stopped"
        code = self._process.wait()
        self._words.seek(0)
        lines = self._words.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        return f"{how}, {one_line(lines[-1], 200)}" if lines else how

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """The answer of a small request, waited for. Raises RunError."""
        request = urllib.request.Request(
            self.address + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", **self.headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            raise self.failure(error) from error
