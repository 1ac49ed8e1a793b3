"""What a batched decoder takes and what it gives: jobs in, tokens out. Token ids only, no text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import UserError
from trainer.generate.sampling import Sampling

FinishReason = Literal["stop", "length"]


class Matcher(Protocol):
    """A text that has to follow a grammar, as far as it has come."""

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next, (V,). Raises RunError when that cannot be computed."""

    def accept(self, token: int) -> None:
        """Append a token that is allowed."""

    @property
    def complete(self) -> bool:
        """Whether the text is complete and nothing can follow."""


class Grammar(Protocol):
    """What a text has to be; see `trainer.generate.batched.grammar`."""

    def matcher(self) -> Matcher:
        """What may come in a new text."""


@dataclass(frozen=True)
class Job:
    """One sequence to continue.

    `max_new_tokens` may be 0, to score the prompt alone. `stop_ids` end the sequence and are not
    part of it. `top_logprobs` is how many of the likeliest tokens are reported with each token's
    own log-probability; None reports no log-probabilities. `score_prompt` reports those of the
    prompt's tokens too. `embed` asks for the prompt's embedding instead of new tokens.
    `logit_bias` and the penalties change the logits before sampling, the `repetition_penalty` those
    of the prompt's tokens too; log-probabilities are the model's own, before temperature, bias,
    penalties and filters. New tokens follow the `grammar`, and end when nothing can follow.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    stop_ids: frozenset[int] = frozenset()
    top_logprobs: int | None = None
    score_prompt: bool = False
    embed: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    grammar: Grammar | None = None


def check_job(job: Job, *, context: int, vocabulary: int, known_ids: int) -> None:
    """Raise UserError for a job that a decoder with `context` positions cannot run.

    A model may be padded past the ids its tokenizer knows: a prompt may hold any of the
    `vocabulary` ids, but only the first `known_ids` are ever chosen.
    """
    if not job.prompt:
        raise UserError("The prompt is empty; give at least one token to start from.")
    for what, ids, end in (
        ("prompt", job.prompt, vocabulary),
        ("logit bias", job.logit_bias, known_ids),
    ):
        unknown = [token for token in ids if not 0 <= token < end]
        if unknown:
            raise UserError(
                f"The {what} has token id {unknown[0]}, outside the vocabulary of {end} ids."
            )
    if len(job.prompt) > context:
        raise UserError(
            f"The prompt has {len(job.prompt)} tokens and the context is {context}; shorten it."
        )


@dataclass(frozen=True)
class TokenScore:
    """A token's log-probability in nats and the likeliest tokens at its position, best first.

    `logprob` is None where nothing precedes the token: the first one of a prompt.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class PromptScored:
    """The scores of every prompt token; sent once, before the first new token."""

    scores: tuple[TokenScore, ...]


@dataclass(frozen=True)
class NewToken:
    """A token that was chosen; never a stop token."""

    score: TokenScore


@dataclass(frozen=True)
class Finished:
    """The end: `stop` for a stop token or a complete grammar, else `length`: no room for more."""

    reason: FinishReason


@dataclass(frozen=True)
class Embedded:
    """The mean of the prompt's last hidden states, scaled to length 1."""

    vector: tuple[float, ...]


Event = PromptScored | NewToken | Embedded | Finished
