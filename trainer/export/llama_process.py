"""Asking llama.cpp: its server in a process beside us, for tokens and their probabilities."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import queue
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from shared.errors import RunError
from shared.text import one_line

START_SECONDS = 300.0  # for a large file on a slow disk
ANSWER_SECONDS = 600.0

#: Log-probabilities by token id; of the likeliest tokens only where there are many.
Logprobs = dict[int, float]


def llama_cpp_installed() -> bool:
    """Whether there is a llama.cpp to ask."""
    return importlib.util.find_spec("xllamacpp") is not None


class LlamaServer:
    """A running server. Every method raises RunError when it does not answer."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._whole_character = self.tokenize("a")[0]

    def tokenize(self, text: str) -> list[int]:
        """The ids of `text`, special tokens in it spelled out."""
        request = {"content": text, "add_special": False, "parse_special": False}
        return [int(token) for token in self._post("/tokenize", request)["tokens"]]

    def detokenize(self, ids: list[int]) -> str:
        """The text of `ids`."""
        return str(self._post("/detokenize", {"tokens": ids})["content"])

    def next_logprobs(self, ids: list[int], likeliest: int) -> Logprobs:
        """Log-probabilities of the `likeliest` tokens after `ids`, the likeliest first."""
        request = {
            "prompt": ids,
            "n_predict": 1,
            "n_probs": likeliest,
            # The server tells nothing of a token that ends within a character, so it is made to
            # choose one that does not; the probabilities are those from before the choice.
            "logit_bias": [[self._whole_character, 1e6]],
            "temperature": 0,
            "top_k": 1,
            "cache_prompt": True,
        }
        (place,) = self._post("/completion", request)["completion_probabilities"]
        # JSON has no NaN: a number that is none comes as null.
        return {
            int(top["id"]): math.nan if top["logprob"] is None else float(top["logprob"])
            for top in place["top_logprobs"]
        }

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self._address + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = one_line(error.read(1000).decode("utf-8", "replace"))
            raise RunError(f"llama.cpp refused the request: {said}.") from error
        except (OSError, ValueError) as error:
            raise RunError(f"llama.cpp does not answer: {one_line(error)}.") from error


@contextlib.contextmanager
def llama_server(path: Path, context: int, threads: int = 1) -> Iterator[LlamaServer]:
    """llama.cpp with `path` loaded and room for `context` tokens.

    Raises RunError with its last words when it cannot load the file.
    """
    numbers = [str(context), str(threads)]
    command = [sys.executable, "-m", "trainer.export.llama_server", str(path), *numbers]
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words
        )
        try:
            yield LlamaServer(_address(process, words, path))
        finally:
            process.kill()
            process.communicate()


def _address(process: subprocess.Popen[bytes], words: IO[bytes], path: Path) -> str:
    assert process.stdout is not None
    first_line: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    read = process.stdout.readline
    threading.Thread(target=lambda: first_line.put(read()), daemon=True).start()
    try:
        line = first_line.get(timeout=START_SECONDS).decode().strip()
    except queue.Empty as error:
        raise RunError(f"llama.cpp took too long to load {one_line(path)}.") from error
    if not line.startswith("http"):
        process.wait()
        words.seek(0)
        said = words.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
        last = one_line(said[-1]) if said else f"it ended with {process.returncode}"
        raise RunError(f"llama.cpp cannot load {one_line(path)}: {last}.")
    return line
