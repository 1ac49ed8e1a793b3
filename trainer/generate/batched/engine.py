"""What the API asks of an engine: jobs in, tokens out, many at once.

An engine knows token ids only. Text, stop strings, templates and the wire are the API's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from trainer.generate.sampling import Sampling

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Job:
    """One sequence to go on from.

    `max_new_tokens` may be 0, to score the prompt alone. `top_logprobs` is how many likeliest
    tokens come with each token's own log-probability; None: no log-probabilities at all.
    `score_prompt` asks for those of the prompt's tokens too. `logit_bias` and the two penalties
    change the logits as OpenAI's reference says, before sampling; log-probabilities are those of
    the model itself, before temperature, bias and filters.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    stop_ids: frozenset[int] = frozenset()
    top_logprobs: int | None = None
    score_prompt: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenScore:
    """A token's natural log-probability and the likeliest tokens at its place, best first.

    `logprob` is None where there is nothing to go by: the first token of a prompt.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class PromptScored:
    """The scores of every prompt token; comes once, before the first new token."""

    scores: tuple[TokenScore, ...]


@dataclass(frozen=True)
class NewToken:
    """A token that was chosen. A stop token is never given."""

    score: TokenScore


@dataclass(frozen=True)
class Finished:
    """The end: `stop` for a stop token, `length` for max_new_tokens or a full context."""

    reason: FinishReason


Event = PromptScored | NewToken | Finished


class Codec(Protocol):
    """Text and token ids, as the engine's model has them."""

    vocab_size: int
    bos_id: int
    eos_id: int

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of every special token."""

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`."""

    def encode_prompt(self, text: str) -> list[int]:
        """The ids of a text to go on from: begun as the model knows texts, and never empty."""

    def decode_bytes(self, ids: Iterable[int], skip_special: bool = False) -> bytes:
        """The bytes of `ids`; a character may be incomplete at either end."""


class QueueFullError(Exception):
    """More jobs wait than the engine takes; try again later."""


@dataclass(frozen=True)
class Load:
    """How busy an engine is, for `/metrics` and `/health`."""

    running: int
    waiting: int
    capacity: int
    tokens_generated: int
    prompt_tokens: int


class Engine(Protocol):
    """Decodes many jobs at once."""

    context: int  # positions of prompt and new tokens together
    end_ids: frozenset[int]  # every token that ends a text, the codec's eos_id among them

    @property
    def codec(self) -> Codec:
        """The tokenizer of its model."""

    async def start(self) -> None:
        """Load and get ready; returns when jobs may come."""

    async def close(self) -> None:
        """End all jobs and give everything back."""

    def generate(self, job: Job) -> AsyncIterator[Event]:
        """The job's events. Closing the iterator cancels the job and frees its place at once.

        Raises QueueFullError before the first event when too many wait, UserError for a prompt
        that is empty, has ids outside the vocabulary or does not fit the context.
        """

    def load(self) -> Load:
        """How busy it is now."""
