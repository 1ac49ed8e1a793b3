"""Answers sampled by the batched decoder, from the very weights that are trained.

A decoder is made for each call, so no keys and values that an earlier step's weights computed are
left, and it reads the weights as they are: packing their matrices would take a second copy of them,
and measured no faster with the many rows of a rollout. R rows, K ids of the tokenizer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from shared.errors import UserError
from trainer.data.tokenizer import Tokenizer
from trainer.generate.batched.building import Precision, build_decoder, plan_decoder
from trainer.generate.batched.choosing import draw
from trainer.generate.batched.decoder import Decoder
from trainer.generate.batched.job import Job, NewToken
from trainer.generate.batched.running import Running
from trainer.generate.sampling import Sampling
from trainer.model.language_model import LanguageModel
from trainer.rl.sampled import Finished, Request, Stops
from trainer.rl.writing import Ends, Writing

#: Answers written at once: with 128, a small model wrote a sixth more tokens per second of
#: processor time than with 32.
MOST_SLOTS = 128


@dataclass(frozen=True)
class How:
    """How answers are sampled, how many are written at once (None: as memory allows), and the most
    tokens of a prompt with its answer (None: the model's context).
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    slots: int | None = None
    context: int | None = None

    @property
    def sampling(self) -> Sampling:
        """For the decoder."""
        return Sampling(temperature=self.temperature, top_k=0, top_p=self.top_p)


class ModelEngine:
    """Samples from `model` on its device. `stops` finds the end of an answer in its text.

    `busy` is asked before each pass whether this rank has work left, and answers whether any rank
    has: models that are spread over ranks are called by all of them, or by none.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        stops: Stops,
        how: How,
        *,
        end_ids: frozenset[int] = frozenset(),
        precision: Precision | None = None,
        busy: Callable[[bool], bool] = bool,
    ) -> None:
        self._model, self._tokenizer, self._how = model, tokenizer, how
        self._ends = Ends(tokenizer, stops, end_ids | {tokenizer.eos_id})
        self._precision, self._busy = precision, busy

    def sample(self, requests: Sequence[Request], finished: Finished) -> None:
        """Hand the answer to each request to `finished`, with its place, as soon as it is written.

        Raises UserError for a prompt that fills the context, RunError if an output is not finite.
        """
        was_training = self._model.training
        self._model.eval()
        try:
            self._sample(requests, finished)
        finally:
            self._model.train(was_training)

    def _sample(self, requests: Sequence[Request], finished: Finished) -> None:
        scored = _ScoredDraws()
        decoder = self._decoder(requests, scored)
        answers: dict[Running, Writing] = {}
        waiting: deque[Running] = deque()
        for place, request in enumerate(requests):
            running = decoder.running_of(self._job(request))
            waiting.append(running)
            answers[running] = Writing(place, request, self._ends)
        with decoder.computing():
            while self._busy(bool(waiting or decoder.running)):
                while waiting and not decoder.full:
                    decoder.admit(waiting.popleft())
                for running in self._turn(decoder, answers):
                    answer = answers.pop(running)
                    finished(answer.place, answer.sampled(scored.logprobs.pop(running)))
                if not waiting:
                    decoder.close_ranks()

    def _decoder(self, requests: Sequence[Request], scored: _ScoredDraws) -> Decoder:
        longest = max((len(request.ids) for request in requests), default=1)
        context = min(self._how.context or self._model.dimensions.T, self._model.dimensions.T)
        if longest >= context:
            raise UserError(
                f"A prompt has {longest} tokens, and the context is {context}: none is "
                "left for an answer. Use shorter prompts."
            )
        plan = plan_decoder(
            self._model,
            slots=self._how.slots,
            most_slots=MOST_SLOTS,
            context=min(context, longest + self._how.max_new_tokens),
            precision=self._precision,
            draft=False,
        )
        plan = replace(plan, slots=max(1, min(plan.slots, len(requests))))
        known = min(self._tokenizer.vocab_size, self._model.dimensions.V)
        return build_decoder(self._model, plan, known, scored, pack=False)

    def _job(self, request: Request) -> Job:
        """End tokens are tokens like others here: what chose them is trained."""
        return Job(request.ids, self._how.max_new_tokens, self._how.sampling, request.seed)

    def _turn(self, decoder: Decoder, answers: dict[Running, Writing]) -> list[Running]:
        """One forward pass, and the jobs whose answers it finished."""
        finished = []
        if not decoder.running:  # other ranks have work left
            decoder.idle()
            return []
        for outcome in decoder.turn():
            if outcome.error:
                raise outcome.error
            running = outcome.running
            tokens = [event.score.token for event in outcome.events if isinstance(event, NewToken)]
            at_limit = running not in decoder.running
            if answers[running].add(tokens, last=at_limit) or at_limit:
                decoder.release(running)
                finished.append(running)
        return finished


class _ScoredDraws:
    """The decoder's usual draws, and the log-probability of every token that was drawn."""

    def __init__(self) -> None:
        self.logprobs: dict[Running, list[float]] = {}

    def __call__(self, logits_RK: Tensor, choosing: Sequence[Running]) -> list[int]:
        """The token of every row. All rows have one temperature."""
        samplings = [running.job.sampling for running in choosing]
        tokens = draw(logits_RK, samplings, [one.randomness.random() for one in choosing])
        scaled_RK = logits_RK / samplings[0].temperature
        chosen_R1 = torch.tensor(tokens, device=logits_RK.device)[:, None]
        logprobs_R = scaled_RK.gather(-1, chosen_R1)[:, 0] - scaled_RK.logsumexp(dim=-1)
        for running, logprob in zip(choosing, logprobs_R.tolist(), strict=True):
            self.logprobs.setdefault(running, []).append(logprob)
        return tokens
