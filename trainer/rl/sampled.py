"""What is asked of a model in a rollout, and what it answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

#: Where the answer in a completion ends, in characters; None while it goes on.
Stops = Callable[[str], int | None]


@dataclass(frozen=True)
class Request:
    """One answer to sample: the token ids to continue, the seed of its randomness, and the part of
    the answer that those ids hold already.
    """

    ids: tuple[int, ...]
    seed: int
    given: str = ""


@dataclass(frozen=True)
class Sampled:
    """A sampled answer.

    `tokens` are the new ones, the end-of-text token included if the model chose it. `logprobs` are
    theirs in nats, of the softmax of the logits over the temperature, before top-p. `text` is the
    answer up to its end. It is `truncated` if it reached the limit of tokens before its end.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    truncated: bool


#: Takes an answer and the place of its request.
Finished = Callable[[int, Sampled], None]


class Engine(Protocol):
    """What samples answers from the present weights."""

    def sample(self, requests: Sequence[Request], finished: Finished) -> None:
        """Hand the answer to each request to `finished`, with its place in `requests`, as soon as
        it is written.
        """
