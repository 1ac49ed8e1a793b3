"""Decoding a list of jobs to the end, in the calling thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from trainer.generate.batched.decoder import Decoder, Outcome, Running
from trainer.generate.batched.job import (
    Finished,
    FinishReason,
    Job,
    NewToken,
    PromptScored,
    TokenScore,
)


@dataclass(frozen=True)
class Completion:
    """What became of a job: its new tokens with their scores, and why it ended.

    `prompt_scores` has one entry for each token of the prompt if the job asked for them.
    """

    scores: tuple[TokenScore, ...]
    reason: FinishReason
    prompt_scores: tuple[TokenScore, ...] = ()

    @property
    def tokens(self) -> tuple[int, ...]:
        """The ids of the new tokens, without the stop token."""
        return tuple(score.token for score in self.scores)


def complete(decoder: Decoder, jobs: Iterable[Job]) -> list[Completion]:
    """The completion of each job, in their order; as many run at once as `decoder` has slots.

    `decoder` must be idle, and is idle again afterwards. Up to rounding, a job's tokens depend on
    its own settings and seed alone. Raises UserError before anything runs if a job cannot run,
    RunError if the model's output is not finite.
    """
    everyone = [decoder.running_of(job) for job in jobs]
    waiting = deque(everyone)
    collected: dict[Running, _Collected] = {running: _Collected() for running in everyone}
    with decoder.computing():
        try:
            while waiting or decoder.running:
                while waiting and not decoder.full:
                    decoder.admit(waiting.popleft())
                for outcome in decoder.turn():
                    collected[outcome.running].add(outcome)
        except BaseException:
            decoder.release_all()
            raise
    return [collected[running].completion() for running in everyone]


class _Collected:
    def __init__(self) -> None:
        self._new: list[TokenScore] = []
        self._prompt: tuple[TokenScore, ...] = ()
        self._reason: FinishReason | None = None

    def add(self, outcome: Outcome) -> None:
        if outcome.error:
            raise outcome.error
        for event in outcome.events:
            match event:
                case NewToken(score):
                    self._new.append(score)
                case PromptScored(scores):
                    self._prompt = scores
                case Finished(reason):
                    self._reason = reason

    def completion(self) -> Completion:
        assert self._reason is not None, "a job has left the decoder without an end"
        return Completion(tuple(self._new), self._reason, self._prompt)
