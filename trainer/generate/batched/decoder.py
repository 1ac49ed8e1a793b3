"""Continuous batching: turn by turn, one forward pass for every job that runs.

A turn takes one token of every job that decodes and a chunk of the prompts that are not through
yet, computes them together and chooses the next tokens. Jobs come and go between turns.
No threads here, and no waiting: `trainer.generate.batched.batching` has those.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from shared.errors import RunError
from trainer.generate.batched.choosing import adjust, adjustments, draw, score
from trainer.generate.batched.engine import Event, Finished, Job, NewToken, PromptScored, TokenScore
from trainer.model.inference.slot_cache import Piece, SlotCache
from trainer.model.language_model import LanguageModel

#: A prompt that begins with this many tokens of a job in another slot has their keys copied.
MIN_COPY = 32
#: Logits computed at once when a prompt is scored, in numbers.
SCORE_LOGITS = 1 << 23


@dataclass(eq=False)
class Running:
    """A job in its slot. `computed` tokens of it are in the cache; `limit` bounds the new ones.

    While there is a `leader`, the first `shared` tokens are the leader's too and being computed
    there: those of several choices of one prompt are computed once.
    """

    job: Job
    limit: int
    slot: int = -1
    computed: int = 0
    leader: Running | None = None
    shared: int = 0
    tokens: list[int] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)
    scores: list[TokenScore] = field(default_factory=list)
    randomness: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = list(self.job.prompt)
        self.randomness = random.Random(self.job.seed)

    @property
    def missing(self) -> int:
        """Tokens that are not in the cache yet: one when decoding."""
        return len(self.tokens) - self.computed

    @property
    def prefilling(self) -> bool:
        """Whether the prompt is not through."""
        return self.computed < len(self.job.prompt)


@dataclass(frozen=True)
class Outcome:
    """What a turn brought for a job; after an error or `Finished` it has left its slot."""

    running: Running
    events: list[Event]
    error: RunError | None = None


class Decoder:
    """The model, its cache and the jobs in its slots.

    `known_ids` bounds the ids that are chosen to those the tokenizer has; `prefill_chunk` is how
    many tokens of prompts a turn computes.
    """

    def __init__(
        self, model: LanguageModel, cache: SlotCache, *, known_ids: int, prefill_chunk: int
    ) -> None:
        self.model = model
        self.cache = cache
        self.known_ids = known_ids
        self.prefill_chunk = prefill_chunk
        self.running: list[Running] = []
        self._device = cache.keys.device
        # What is left in the cache of jobs that ended, longest ago first.
        self._free: dict[int, list[int]] = {slot: [] for slot in range(len(cache.lengths))}

    @property
    def full(self) -> bool:
        """Whether every slot is taken."""
        return not self._free

    # Coming and going

    def admit(self, running: Running) -> None:
        """Give a job a slot: that one where most of its prompt's beginning is already computed."""
        prompt = running.tokens
        # The last token of a prompt is always computed: its logits are wanted.
        most = 0 if running.job.score_prompt else len(prompt) - 1
        shared = {slot: min(_common(prompt, held), most) for slot, held in self._free.items()}
        slot = max(shared, key=shared.__getitem__)
        del self._free[slot]
        self.cache.lengths[slot] = running.computed = shared[slot]
        for other in self.running:
            # Not what it has yet to think of: that takes a turn for every token.
            known = max(other.computed, len(other.job.prompt))
            common = min(_common(prompt, other.tokens), known, most)
            if common >= max(MIN_COPY, 2 * running.computed, running.shared + 1):
                running.leader, running.shared = other, common
        running.slot = slot
        self.running.append(running)

    def _follow(self) -> None:
        """Copy what leaders have computed; who lost its leader computes for itself."""
        for running in self.running:
            leader = running.leader
            if leader is None:
                continue
            if leader not in self.running:
                running.leader = None
            elif leader.computed >= running.shared:
                self.cache.copy(leader.slot, running.slot, running.shared)
                running.computed, running.leader = running.shared, None

    def release(self, running: Running) -> None:
        """Free the slot of a job; what is computed stays, for a prompt that begins the same."""
        if running in self.running:
            self.running.remove(running)
            self._free[running.slot] = running.tokens[: running.computed]

    def release_all(self) -> list[Running]:
        """Free every slot and forget what is in it, after a pass that failed."""
        failed, self.running = self.running, []
        self._free = {slot: [] for slot in range(len(self.cache.lengths))}
        for slot in self._free:
            self.cache.clear(slot)
        return failed

    # A turn

    def turn(self) -> list[Outcome]:
        """One forward pass and what came of it."""
        self._follow()
        parts = self._parts()
        if not parts:
            return []
        self.cache.plan([Piece(running.slot, count) for running, count in parts])
        ids = [
            token
            for running, count in parts
            for token in running.tokens[running.computed : running.computed + count]
        ]
        ids_1N = torch.tensor([ids], device=self._device)
        hidden_ND = self.model.body(ids_1N, self.cache)[0]
        return self._outcomes(parts, hidden_ND)

    def _parts(self) -> list[tuple[Running, int]]:
        """Which jobs compute how many tokens in this turn: those that decode first, by slot.

        Prompts share the chunk: half of it goes to the one that came first, the rest is dealt
        out evenly, and what a short one leaves goes to the longer ones. So the first is soon
        through, and a short prompt never waits for a long one to end.
        """
        decoding = [running for running in self.running if not running.prefilling]
        prefilling = [r for r in self.running if r.prefilling and r.leader is None]
        shares: dict[Running, int] = dict.fromkeys(prefilling, 0)
        left = self.prefill_chunk
        if prefilling:
            first = prefilling[0]
            shares[first] = min(first.missing, left // 2)
            left -= shares[first]
        shortest_first = sorted(prefilling, key=lambda running: running.missing - shares[running])
        for place, running in enumerate(shortest_first):
            fair = max(1, left // (len(prefilling) - place))
            more = min(running.missing - shares[running], fair)
            shares[running] += more
            left -= more
        return [
            *((running, 1) for running in sorted(decoding, key=lambda running: running.slot)),
            *((running, count) for running, count in shares.items() if count),
        ]

    def _outcomes(self, parts: Sequence[tuple[Running, int]], hidden_ND: Tensor) -> list[Outcome]:
        ends = list(itertools.accumulate(count for _, count in parts))
        for (running, count), end in zip(parts, ends, strict=True):
            if running.job.score_prompt and running.prefilling:
                self._score_prompt(running, hidden_ND[end - count : end])
            running.computed += count
        self._follow()  # before a leader may end
        outcomes = []
        choosing: list[Running] = []
        rows: list[int] = []
        for (running, _), end in zip(parts, ends, strict=True):
            if not running.missing and running.limit:
                choosing.append(running)
                rows.append(end - 1)
            elif not running.missing and any(_is_nan(score) for score in running.scores):
                outcomes.append(self._fail(running))
            elif not running.missing:
                outcomes.append(self._finish(running, [*_scored(running), Finished("length")]))
        if rows:
            outcomes += self._choose(choosing, self._logits(hidden_ND[rows]))
        return outcomes

    def _logits(self, hidden_ND: Tensor) -> Tensor:
        """(N, V) in fp32, also where the rest is in bf16: log-probabilities are made of them."""
        with torch.autocast(self._device.type, enabled=False):
            return self.model.lm_head(hidden_ND.float())

    def _score_prompt(self, running: Running, hidden_TD: Tensor) -> None:
        """Score the prompt tokens that follow those that were just computed."""
        top = running.job.top_logprobs or 0
        if running.computed == 0:
            running.scores.append(TokenScore(running.tokens[0]))
        following = running.tokens[running.computed + 1 : running.computed + 1 + len(hidden_TD)]
        rows = max(1, SCORE_LOGITS // self.model.dimensions.V)
        for start in range(0, len(following), rows):
            tokens = following[start : start + rows]
            logits_TV = self._logits(hidden_TD[start : start + len(tokens)])
            running.scores += score(logits_TV, tokens, [top] * len(tokens), self.known_ids)

    def _choose(self, choosing: Sequence[Running], logits_RV: Tensor) -> list[Outcome]:
        """The next token of every job whose tokens are all computed."""
        sound_R = logits_RV.amax(dim=-1).isfinite()
        sound = sound_R.tolist()
        if not all(sound):  # what is drawn there is thrown away, but must be a token
            logits_RV = logits_RV.masked_fill(~sound_R[:, None], 0.0)
        chosen_from = adjust(
            logits_RV[:, : self.known_ids],
            [adjustments(running.job, running.counts) for running in choosing],
        )
        tokens = draw(
            chosen_from,
            [running.job.sampling for running in choosing],
            [running.randomness.random() for running in choosing],
        )
        scores = self._scores(choosing, logits_RV, tokens)
        return [
            self._advance(running, token_score) if finite else self._fail(running)
            for running, token_score, finite in zip(choosing, scores, sound, strict=True)
        ]

    def _scores(
        self, choosing: Sequence[Running], logits_RV: Tensor, tokens: Sequence[int]
    ) -> list[TokenScore]:
        scores = [TokenScore(token) for token in tokens]
        tops = {
            row: running.job.top_logprobs
            for row, running in enumerate(choosing)
            if running.job.top_logprobs is not None
        }
        if tops:
            wanted = [tokens[row] for row in tops]
            found = score(logits_RV[list(tops)], wanted, list(tops.values()), self.known_ids)
            for row, row_score in zip(tops, found, strict=True):
                scores[row] = row_score
        return scores

    def _advance(self, running: Running, chosen: TokenScore) -> Outcome:
        """Take in the chosen token; the job goes on, or ends here."""
        events = _scored(running)
        if chosen.token in running.job.stop_ids:
            return self._finish(running, [*events, Finished("stop")])
        events.append(NewToken(chosen))
        running.tokens.append(chosen.token)
        running.counts[chosen.token] += 1
        if len(running.tokens) - len(running.job.prompt) >= running.limit:
            return self._finish(running, [*events, Finished("length")])
        return Outcome(running, events)

    def _finish(self, running: Running, events: list[Event]) -> Outcome:
        self.release(running)
        return Outcome(running, events)

    def _fail(self, running: Running) -> Outcome:
        self.release(running)
        self._free[running.slot] = []
        self.cache.clear(running.slot)
        error = RunError("The model's output is not finite: its training has diverged.")
        return Outcome(running, [], error)


def _scored(running: Running) -> list[Event]:
    """The scores of the prompt, where they are wanted and have not been given."""
    if not running.job.score_prompt or len(running.tokens) > len(running.job.prompt):
        return []
    return [PromptScored(tuple(running.scores))]


def _is_nan(score: TokenScore) -> bool:
    return score.logprob is not None and math.isnan(score.logprob)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))
