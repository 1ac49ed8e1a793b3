"""Log-probabilities in the two formats of OpenAI's API."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from trainer.generate.batched.job import TokenScore
from trainer.serve.engine import Codec
from trainer.serve.text_stream import PlacedToken

LEAST = -9999.0  # OpenAI's value for minus infinity, which JSON cannot express


def token_text(codec: Codec, token: int) -> str:
    """A token as a string: its text, or `bytes:\\xe2\\x82` if it is a part of a character."""
    raw = codec.decode_bytes([token])
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def completion_logprobs(codec: Codec, tokens: Sequence[PlacedToken]) -> dict[str, Any]:
    """Parallel lists. Only the first token of an echoed prompt has no log-probability: null."""
    return {
        "tokens": [token_text(codec, token.score.token) for token in tokens],
        "token_logprobs": [
            None if _begins(token) else _finite(token.score.logprob) for token in tokens
        ],
        "top_logprobs": [
            None if _begins(token) else _likeliest(codec, token.score) for token in tokens
        ],
        "text_offset": [token.offset for token in tokens],
    }


def chat_logprobs(codec: Codec, tokens: Sequence[PlacedToken]) -> dict[str, Any]:
    """One object per token, with its bytes."""
    return {
        "content": [
            _entry(codec, token.score.token, token.score.logprob)
            | {"top_logprobs": [_entry(codec, t, value) for t, value in token.score.top]}
            for token in tokens
        ],
        "refusal": None,
    }


def _begins(token: PlacedToken) -> bool:
    """Whether nothing precedes the token, so that OpenAI's API has null for it."""
    return token.first and token.score.logprob is None


def _likeliest(codec: Codec, score: TokenScore) -> dict[str, float]:
    """The likeliest tokens and the actual one, which need not be among them."""
    table: dict[str, float] = {}
    for token, value in (*score.top, (score.token, score.logprob)):
        table.setdefault(token_text(codec, token), _finite(value))  # of equal strings keep the best
    return table


def _entry(codec: Codec, token: int, logprob: float | None) -> dict[str, Any]:
    return {
        "token": token_text(codec, token),
        "logprob": _finite(logprob),
        "bytes": list(codec.decode_bytes([token])),
    }


def _finite(value: float | None) -> float:
    """A number in every case, since typed clients expect one: `LEAST` where there is none."""
    return LEAST if value is None or not math.isfinite(value) else value
