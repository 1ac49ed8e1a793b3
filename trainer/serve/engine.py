"""What the API needs from an engine: jobs in, tokens out, many at once.

An engine knows token ids only. Text, stop strings, templates and the wire format are the API's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Protocol

from trainer.generate.batched.grammar import GrammarText
from trainer.generate.batched.job import Event, Grammar, Job


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

    def encode_prompt(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of a prompt: with the model's begin token where it has one, and never empty."""

    def decode_bytes(self, ids: Iterable[int], skip_special: bool = False) -> bytes:
        """The bytes of `ids`; a character may be incomplete at either end."""


class QueueFullError(Exception):
    """More jobs are waiting than the engine accepts; try again later."""


@dataclass(frozen=True)
class Load:
    """How busy an engine is, for `/metrics` and `/health`."""

    running: int
    waiting: int
    capacity: int
    tokens_generated: int
    prompt_tokens: int
    tokens_drafted: int = 0
    drafts_accepted: int = 0


class Engine(Protocol):
    """Decodes many jobs at once."""

    context: int  # positions of prompt and new tokens together
    end_ids: frozenset[int]  # every token that ends a text, the codec's eos_id among them

    @property
    def codec(self) -> Codec:
        """The tokenizer of its model."""

    async def start(self) -> None:
        """Load the model; returns when jobs are accepted."""

    async def close(self) -> None:
        """End all jobs and free everything."""

    def grammar(self, wanted: GrammarText, ends: frozenset[int]) -> Grammar:
        """The grammar for a job; a complete text may end with one of `ends`.

        May take a while. Raises UserError for one that is wrong or that the engine cannot follow.
        """

    def generate(self, job: Job) -> AsyncIterator[Event]:
        """The job's events. Closing the iterator cancels the job and frees its slot at once.

        Raises QueueFullError before the first event when too many jobs wait, UserError for a
        prompt that is empty, has ids outside the vocabulary or does not fit the context.
        """

    def load(self) -> Load:
        """How busy it is now."""
