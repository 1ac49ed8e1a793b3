"""A job while a decoder runs it, and what a turn gave it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor

from shared.errors import RunError
from trainer.generate.batched.job import Event, Job, Matcher, TokenScore
from trainer.generate.drafting import Drafting


@dataclass(eq=False)
class Running:
    """A job in its slot. `computed` of its tokens are in the cache; `limit` bounds the new ones.

    `seen` are the tokens that the job's repetition penalty makes less likely. `drafts` are tokens
    that may come next, to be computed with the newest one.

    While there is a `leader`, that job is computing the first `shared` tokens, which both have in
    common: several jobs with one prompt compute it once.
    """

    job: Job
    limit: int
    slot: int = -1
    computed: int = 0
    leader: Running | None = None
    shared: int = 0
    tokens: list[int] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)
    seen: set[int] = field(default_factory=set)
    scores: list[TokenScore] = field(default_factory=list)
    drafts: list[int] = field(default_factory=list)
    drafting: Drafting | None = None
    hidden_sum: Tensor | None = None  # (D,), of the prompt so far, for an embedding
    randomness: random.Random = field(init=False)
    matcher: Matcher | None = field(init=False)

    @classmethod
    def of(cls, job: Job, context: int) -> Running:
        """The job, for slots of `context` positions."""
        # The last token needs no position, so a full context can still give one.
        return cls(job, min(job.max_new_tokens, max(1, context - len(job.prompt))))

    def __post_init__(self) -> None:
        self.tokens = list(self.job.prompt)
        self.randomness = random.Random(self.job.seed)
        self.matcher = self.job.grammar.matcher() if self.job.grammar else None
        if self.job.repetition_penalty != 1.0:
            self.seen = set(self.tokens)

    def after(self, computed: int, count: int) -> list[int]:
        """`count` tokens after the first `computed`, drafts at the end."""
        return (self.tokens + self.drafts)[computed : computed + count]

    @property
    def missing(self) -> int:
        """Tokens that are not in the cache yet; one while decoding."""
        return len(self.tokens) - self.computed

    @property
    def prefilling(self) -> bool:
        """Whether tokens of the prompt are still to be computed."""
        return self.computed < len(self.job.prompt)


@dataclass(frozen=True)
class Outcome:
    """What a turn gave a job. After an error or `Finished` the job has left its slot."""

    running: Running
    events: list[Event]
    error: RunError | None = None
