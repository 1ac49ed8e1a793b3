"""Continuous batching: turn by turn, one forward pass for all running jobs.

A turn takes one token of every job that decodes and a chunk of the prompts that are still being
read, computes them together and chooses the next tokens. Jobs come and go between turns. There are
no threads and no waiting here: `completions` runs a list of jobs to the end, and
`trainer.serve.torch_engine` runs a decoder in a thread for jobs that arrive at any time.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor

from shared.errors import RunError
from trainer.generate.batched.choosing import score
from trainer.generate.batched.job import (
    Embedded,
    Event,
    Finished,
    Job,
    NewToken,
    PromptScored,
    TokenScore,
    check_job,
)
from trainer.generate.batched.next_tokens import Draw, draw_by_uniforms, next_tokens
from trainer.generate.batched.running import Outcome, Running
from trainer.generate.drafting import Drafting
from trainer.generate.sampling import NOT_FINITE
from trainer.model.inference.drafts import Drafted
from trainer.model.inference.slot_cache import Piece, SlotCache
from trainer.model.language_model import LanguageModel
from trainer.sharded import is_sharded

#: The keys of a prompt that shares at least this many first tokens with a running job are copied.
MIN_COPY = 32
#: Drafts are made while so many tokens at most would go through the model in a turn: with more, the
#: weights are read for many rows anyway, and rejected drafts cost more than accepted ones gain.
DRAFTED_ROWS = 16
#: Logits computed at once when a prompt is scored, in numbers.
SCORE_LOGITS = 1 << 23


def without_gradients(model: LanguageModel) -> AbstractContextManager[None]:
    """Inference mode. A model that is spread over ranks is only kept from making gradients: what it
    gathers here is used in training again, and must not be of that mode.
    """
    spread = any(map(is_sharded, model.parameters()))
    return torch.no_grad() if spread else torch.inference_mode()


class Decoder:
    """The model, its cache and the jobs in its slots.

    Only the first `known_ids` ids, those the tokenizer knows, are ever chosen. `prefill_chunk` is
    the number of prompt tokens a turn computes. `draw` samples the tokens. A model with extra heads
    drafts tokens while few jobs decode, unless not `draft`; no text depends on it. `admit` and
    `turn` must run inside `computing()`.
    """

    def __init__(
        self,
        model: LanguageModel,
        cache: SlotCache,
        *,
        known_ids: int,
        prefill_chunk: int,
        draw: Draw = draw_by_uniforms,
        draft: bool = True,
    ) -> None:
        self.model = model
        self.cache = cache
        self.known_ids = known_ids
        self.prefill_chunk = prefill_chunk
        self._draw = draw
        self._drafter = model.drafter() if draft else None
        self.drafted = Drafted()
        self.running: list[Running] = []
        self._device = cache.keys.device
        self._bf16 = cache.keys.dtype == torch.bfloat16
        # What is left in the cache of jobs that ended, longest ago first.
        self._free: dict[int, list[int]] = {slot: [] for slot in range(len(cache.lengths))}

    @property
    def full(self) -> bool:
        """Whether every slot is taken."""
        return not self._free

    @property
    def context(self) -> int:
        """Positions of one slot, for prompt and new tokens together."""
        return self.cache.capacity

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Without gradients, and with autocast where the cache is bf16.

        Stay in one block for as long as possible: autocast keeps the weights it has cast.
        """
        with (
            without_gradients(self.model),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16),
        ):
            yield

    # Coming and going

    def running_of(self, job: Job) -> Running:
        """The job, ready to be admitted. Raises UserError if this decoder cannot run it."""
        check_job(
            job,
            context=self.context,
            vocabulary=self.model.dimensions.V,
            known_ids=self.known_ids,
        )
        return Running.of(job, self.context)

    def admit(self, running: Running) -> None:
        """Give a job the free slot that already holds most of its prompt's beginning."""
        prompt = running.tokens
        # The last token of a prompt is always computed, for its logits.
        whole = running.job.score_prompt or running.job.embed
        most = 0 if whole else len(prompt) - 1
        shared = {slot: min(_common(prompt, held), most) for slot, held in self._free.items()}
        slot = max(shared, key=shared.__getitem__)
        del self._free[slot]
        self.cache.lengths[slot] = running.computed = shared[slot]
        for other in self.running:
            # Tokens it has chosen but not computed do not count: they take a turn each.
            known = max(other.computed, len(other.job.prompt))
            common = min(_common(prompt, other.tokens), known, most)
            if common >= max(MIN_COPY, 2 * running.computed, running.shared + 1):
                running.leader, running.shared = other, common
        running.slot = slot
        self.running.append(running)

    def _follow(self) -> None:
        """Copy what leaders have computed. A job whose leader left computes for itself."""
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
        """Free a job's slot. Its keys and values stay for a prompt that begins the same."""
        if running in self.running:
            self.running.remove(running)
            self._free[running.slot] = running.tokens[: running.computed]

    def close_ranks(self) -> None:
        """Move jobs from the last slots into free ones before them: rows of adjacent slots share
        attention calls. Worth it where no job waits for the free slots.
        """
        for running in sorted(self.running, key=lambda running: -running.slot):
            slot = min(self._free, default=running.slot)
            if slot >= running.slot:
                return
            self.cache.copy(running.slot, slot, running.computed)
            del self._free[slot]
            self._free[running.slot] = []
            running.slot = slot

    def release_all(self) -> list[Running]:
        """Free every slot and clear it, after a forward pass failed. Returns the jobs that ran."""
        failed, self.running = self.running, []
        self._free = {slot: [] for slot in range(len(self.cache.lengths))}
        for slot in self._free:
            self.cache.clear(slot)
        return failed

    # A turn

    def turn(self) -> list[Outcome]:
        """One forward pass; what it gave each job."""
        self._follow()
        parts = self._parts()
        if not parts:
            return []
        self.cache.plan([Piece(running.slot, count) for running, count in parts])
        ids = [
            token for running, count in parts for token in running.after(running.computed, count)
        ]
        ids_1N = torch.tensor([ids], device=self._device)
        hidden_ND = self.model.body(ids_1N, self.cache)[0]
        return self._outcomes(parts, hidden_ND)

    def idle(self) -> None:
        """A forward pass for no job: other processes call a model that is spread over all."""
        ids_11 = torch.zeros(1, 1, dtype=torch.int64, device=self._device)
        self.model.body(ids_11)

    def _parts(self) -> list[tuple[Running, int]]:
        """How many tokens each job computes in this turn: decoding jobs first, by slot.

        Prompts share the chunk: half of it goes to the oldest, the rest is dealt out evenly, and
        what a short prompt leaves goes to the longer ones. So the oldest is done soon, and a short
        prompt never waits for a long one.
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
        self._draft(decoding)
        return [
            *(
                (running, 1 + len(running.drafts))
                for running in sorted(decoding, key=lambda running: running.slot)
            ),
            *((running, count) for running, count in shares.items() if count),
        ]

    def _draft(self, decoding: Sequence[Running]) -> None:
        """Let the jobs draft, if their drafts and newest tokens are few enough to go together."""
        if self._drafter is None:
            return
        worth = len(decoding) * (1 + self._drafter.heads) <= DRAFTED_ROWS
        for running in decoding:
            new = len(running.tokens) - len(running.job.prompt)
            room = min(self.context - len(running.tokens), running.limit - new - 1)
            running.drafts = []
            if worth and running.drafting is not None:
                running.drafts = running.drafting.drafts(room)

    def _outcomes(self, parts: Sequence[tuple[Running, int]], hidden_ND: Tensor) -> list[Outcome]:
        ends = list(itertools.accumulate(count for _, count in parts))
        for (running, count), end in zip(parts, ends, strict=True):
            if running.job.score_prompt and running.prefilling:
                self._score_prompt(running, hidden_ND[end - count : end])
            if running.job.embed:
                _add_hidden(running, hidden_ND[end - count : end])
            running.computed += count - len(running.drafts)
        self._follow()  # before a leader may end
        outcomes = []
        choosing: dict[Running, Tensor] = {}
        rows: list[int] = []
        for (running, count), end in zip(parts, ends, strict=True):
            if not running.missing and running.limit:
                choosing[running] = hidden_ND[end - count : end]
                rows.append(end - 1)
            elif not running.missing and any(_is_nan(score) for score in running.scores):
                outcomes.append(self._fail(running))
            elif not running.missing and running.job.embed:
                outcomes.append(self._embed(running))
            elif not running.missing:
                outcomes.append(self._finish(running, [*_scored(running), Finished("length")]))
        if any(running.drafts for running in choosing):
            outcomes += self._choose_with_drafts(choosing)
        elif rows:
            all_rows = len(rows) == len(hidden_ND)
            states_RD = hidden_ND if all_rows else hidden_ND[rows]
            outcomes += self._choose(list(choosing), self._logits(states_RD))
            for running, states in choosing.items():
                self._note(running, states, accepted=0)
        return outcomes

    def _choose_with_drafts(self, hidden: Mapping[Running, Tensor]) -> list[Outcome]:
        """The next token of every job, and those after it as long as they are what was drafted.

        `hidden` are the states (T, D) of this turn, drafts at the end.
        """
        logits = dict(zip(hidden, self._logits_of_drafts(hidden), strict=True))
        found: dict[Running, Outcome] = {}
        accepted: Counter[Running] = Counter()
        choosing = list(hidden)
        while choosing:
            rows_RV = torch.stack([logits[running][accepted[running]] for running in choosing])
            going_on = []
            for outcome in self._choose(choosing, rows_RV):
                running, place = outcome.running, accepted[outcome.running]
                before = found[running].events if place else []
                found[running] = replace(outcome, events=[*before, *outcome.events])
                drafted = running.drafts[place : place + 1]
                if running in self.running and running.tokens[-1:] == drafted:
                    running.computed += 1
                    accepted[running] += 1
                    going_on.append(running)
            choosing = going_on
        for running, states in hidden.items():
            self._note(running, states, accepted=accepted[running])
        return [found[running] for running in hidden]

    def _logits_of_drafts(self, hidden: Mapping[Running, Tensor]) -> Sequence[Tensor]:
        """The logits (1 + drafts, V) of each job's newest token and its drafts."""
        counts = [1 + len(running.drafts) for running in hidden]
        rows = [states[-count:] for states, count in zip(hidden.values(), counts, strict=True)]
        return self._logits(torch.cat(rows)).split(counts)

    def _note(self, running: Running, hidden_TD: Tensor, *, accepted: int) -> None:
        """Forget the drafts of a job, and remember what the next ones are made from."""
        if self._drafter is None:
            return
        if running.drafting is None:
            running.drafting = Drafting(self._drafter, self.drafted)
        drafts, running.drafts = running.drafts, []
        running.drafting.count(len(drafts), accepted)
        if running in self.running:
            self.cache.lengths[running.slot] = running.computed
            right = len(hidden_TD) - len(drafts) + accepted
            running.drafting.look(hidden_TD[:right], running.tokens[-right:])

    def _logits(self, hidden_ND: Tensor) -> Tensor:
        """(N, V) in fp32 even if the rest is bf16, since log-probabilities come from them."""
        if not self._bf16:
            return self.model.lm_head(hidden_ND)
        with torch.autocast(self._device.type, enabled=False):
            return self.model.lm_head(hidden_ND.float())

    def _score_prompt(self, running: Running, hidden_TD: Tensor) -> None:
        """Score the prompt tokens that follow the ones just computed."""
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
        """Choose the next token of every job whose tokens are all computed."""
        found = next_tokens(logits_RV, choosing, self._draw, self.known_ids)
        return [
            self._advance(running, chosen)
            if isinstance(chosen, TokenScore)
            else self._fail(running)
            if chosen is None
            else Outcome(running, [], self._released(running, chosen))
            for running, chosen in zip(choosing, found, strict=True)
        ]

    def _released(self, running: Running, error: RunError) -> RunError:
        self.release(running)
        return error

    def _advance(self, running: Running, chosen: TokenScore) -> Outcome:
        """Append the chosen token; the job continues or ends here."""
        events = _scored(running)
        if chosen.token in running.job.stop_ids:
            return self._finish(running, [*events, Finished("stop")])
        events.append(NewToken(chosen))
        running.tokens.append(chosen.token)
        running.counts[chosen.token] += 1
        running.seen.add(chosen.token)
        if running.matcher:
            running.matcher.accept(chosen.token)
            if running.matcher.complete:
                return self._finish(running, [*events, Finished("stop")])
        if len(running.tokens) - len(running.job.prompt) >= running.limit:
            return self._finish(running, [*events, Finished("length")])
        return Outcome(running, events)

    def _embed(self, running: Running) -> Outcome:
        assert running.hidden_sum is not None
        vector_D = torch.nn.functional.normalize(running.hidden_sum, dim=0)
        if not vector_D.isfinite().all():
            return self._fail(running)
        return self._finish(running, [Embedded(tuple(vector_D.tolist())), Finished("length")])

    def _finish(self, running: Running, events: list[Event]) -> Outcome:
        self.release(running)
        return Outcome(running, events)

    def _fail(self, running: Running) -> Outcome:
        self.release(running)
        self._free[running.slot] = []
        self.cache.clear(running.slot)
        error = RunError(NOT_FINITE)
        return Outcome(running, [], error)


def _scored(running: Running) -> list[Event]:
    """The scores of the prompt, if the job wants them and has not had them yet."""
    if not running.job.score_prompt or len(running.tokens) > len(running.job.prompt):
        return []
    return [PromptScored(tuple(running.scores))]


def _add_hidden(running: Running, hidden_TD: Tensor) -> None:
    """Add to the sum of the prompt's hidden states. Its length divides out when it is scaled."""
    more_D = hidden_TD.float().sum(dim=0)
    before = running.hidden_sum
    running.hidden_sum = more_D if before is None else before + more_D


def _is_nan(score: TokenScore) -> bool:
    return score.logprob is not None and math.isnan(score.logprob)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the common prefix."""
    least = min(len(one), len(other))
    if list(one[:least]) == list(other[:least]):
        return least
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return least
