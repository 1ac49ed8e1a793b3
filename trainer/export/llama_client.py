"""What verification asks of llama.cpp: tokens, and their probabilities."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

from trainer.llama_cpp.process import LlamaServer, ServerSettings, launch

#: Log-probabilities by token id; only those of the likeliest tokens where there are many.
Logprobs = dict[int, float]


class LlamaModel:
    """A GGUF file loaded by llama.cpp. Every method raises RunError when it does not answer."""

    def __init__(self, server: LlamaServer) -> None:
        self._server = server
        self._whole_character = self.tokenize("a")[0]

    def tokenize(self, text: str, add_special: bool = False) -> list[int]:
        """The ids of `text`, with special tokens in it spelled out.

        `add_special` puts the begin token that the file names before it.
        """
        request = {"content": text, "add_special": add_special, "parse_special": False}
        return [int(token) for token in self._server.ask("/tokenize", request)["tokens"]]

    def detokenize(self, ids: list[int]) -> str:
        """The text of `ids`."""
        return str(self._server.ask("/detokenize", {"tokens": ids})["content"])

    def next_logprobs(self, ids: list[int], likeliest: int) -> Logprobs:
        """Log-probabilities of the `likeliest` tokens after `ids`, the likeliest first."""
        request = {
            "prompt": ids,
            "n_predict": 1,
            "n_probs": likeliest,
            # The server reports nothing for a token that ends inside a character, so it is made to
            # choose one that does not. The probabilities are those before the choice.
            "logit_bias": [[self._whole_character, 1e6]],
            "temperature": 0,
            "top_k": 1,
            "cache_prompt": True,
        }
        (place,) = self._server.ask("/completion", request)["completion_probabilities"]
        # JSON has no NaN; it arrives as null.
        return {
            int(top["id"]): math.nan if top["logprob"] is None else float(top["logprob"])
            for top in place["top_logprobs"]
        }


@contextlib.contextmanager
def llama_model(path: Path, context: int, threads: int = 1) -> Iterator[LlamaModel]:
    """`path` loaded by llama.cpp with room for `context` tokens, computing in fp32.

    Raises RunError with llama.cpp's last words if it cannot load the file.
    """
    server = launch(ServerSettings(path, context, threads=threads, exact=True))
    try:
        yield LlamaModel(server)
    finally:
        server.end()
