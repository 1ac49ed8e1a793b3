"""The prompts of a run, and which come next."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import orjson

from shared.text import plural
from trainer.data.permutation import Permutation, key_of
from trainer.tasks.opening import open_answer

if TYPE_CHECKING:
    from trainer.data.tokenizer import Tokenizer
    from trainer.tasks.prompt import Prompt

#: Keep the seeds of held-out answers, and of those before training, apart from those of training.
_HELD_OUT = -1
_SOME = -2


@dataclass(frozen=True)
class Asked:
    """A prompt to answer: its token ids, a seed for each answer, and the part of the answer that
    the ids hold already."""

    prompt: Prompt
    ids: tuple[int, ...]
    seeds: tuple[int, ...]
    given: str = ""


class Prompts:
    """Prompts in token ids. Those that leave no room for an answer in `context` positions are left
    out."""

    def __init__(
        self, prompts: Sequence[Prompt], tokenizer: Tokenizer, context: int, others: int = 0
    ) -> None:
        """`others` tasks of the file are in another language."""
        self._others = others
        every = [open_answer(prompt.prompt, tokenizer) for prompt in prompts]
        fits = [len(ids) < context for ids, _ in every]
        self.prompts = [p for p, fit in zip(prompts, fits, strict=True) if fit]
        self.ids = [tuple(ids) for (ids, _), fit in zip(every, fits, strict=True) if fit]
        self._given = [given for (_, given), fit in zip(every, fits, strict=True) if fit]
        self.left_out = len(prompts) - len(self.prompts)

    def notes(self) -> list[str]:
        """What a person should know."""
        return [
            f"{plural(count, 'task')} left out: {why}"
            for count, why in (
                (self._others, "in another language"),
                (self.left_out, "too long for --seq-len"),
            )
            if count
        ]

    @property
    def digest(self) -> str:
        """Names exactly these prompts."""
        data = orjson.dumps(
            [[p.id, p.prompt, p.signature, p.tests, p.reference] for p in self.prompts]
        )
        return hashlib.sha256(data).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt; 0 without one."""
        return max(map(len, self.ids), default=0)

    def next(self, cursor: int, count: int, answers: int, seed: int) -> list[Asked]:
        """The `count` prompts from the one numbered `cursor` on, in an order shuffled anew in every
        epoch. A pure function: the cursor is all that a resume needs."""
        return [self._asked(number, answers, seed) for number in range(cursor, cursor + count)]

    def _asked(self, number: int, answers: int, seed: int) -> Asked:
        epoch, place = divmod(number, len(self.prompts))
        order = Permutation(len(self.prompts), key_of(seed, epoch))
        chosen = int(order(np.array([place]))[0])
        seeds = tuple(key_of(seed, number, answer) for answer in range(answers))
        return Asked(self.prompts[chosen], self.ids[chosen], seeds, self._given[chosen])

    def some(self, count: int, answers: int, seed: int) -> list[Asked]:
        """Up to `count` different prompts, by chance, with other seeds than in training."""
        every = Permutation(len(self.prompts), key_of(seed, _SOME))(np.arange(len(self.prompts)))
        return [
            Asked(
                self.prompts[chosen],
                self.ids[chosen],
                tuple(key_of(seed, _SOME, place, answer) for answer in range(answers)),
                self._given[chosen],
            )
            for place, chosen in enumerate(every[:count].tolist())
        ]

    def all(self, answers: int, seed: int) -> list[Asked]:
        """Every prompt, with the same seeds each time."""
        return [
            Asked(
                prompt,
                ids,
                tuple(key_of(seed, _HELD_OUT, place, answer) for answer in range(answers)),
                given,
            )
            for place, (prompt, ids, given) in enumerate(
                zip(self.prompts, self.ids, self._given, strict=True)
            )
        ]
