"""Decoding a list of jobs in the calling thread: all at once, or read one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trainer.generate.batched.decoder import Decoder
from trainer.generate.batched.job import (
    Finished,
    FinishReason,
    Job,
    NewToken,
    PromptScored,
    TokenScore,
)
from trainer.generate.batched.running import Outcome


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
    """The completion of each job, in their order. See `JobStreams`."""
    streams = JobStreams(decoder, jobs)
    with decoder.computing():
        return [streams.completion(place) for place in range(len(streams))]


class JobStreams:
    """Jobs that are decoded together, as many at once as `decoder` has slots.

    `decoder` must be idle, and belongs to the streams until every job has been read to its end.
    Up to rounding, a job's tokens depend on its own settings and seed alone. Raises UserError
    before anything runs if a job cannot run.
    """

    def __init__(self, decoder: Decoder, jobs: Iterable[Job]) -> None:
        self._decoder = decoder
        everyone = [decoder.running_of(job) for job in jobs]
        self._waiting = deque(everyone)
        self._collected = [_Collected() for _ in everyone]
        self._of = dict(zip(everyone, self._collected, strict=True))

    def __len__(self) -> int:
        return len(self._collected)

    def tokens(self, place: int) -> Iterator[int]:
        """The new tokens of one job as they come. Raises RunError if the output is not finite."""
        collected, read = self._collected[place], 0
        while True:
            yield from (score.token for score in collected.new[read:])
            read = len(collected.new)
            if collected.reason is not None:
                return
            self._turn()

    def completion(self, place: int) -> Completion:
        """One job, decoded to its end. Raises RunError if the output is not finite."""
        collected = self._collected[place]
        while collected.reason is None:
            self._turn()
        return Completion(tuple(collected.new), collected.reason, collected.prompt)

    def _turn(self) -> None:
        decoder = self._decoder
        with decoder.computing():
            try:
                while self._waiting and not decoder.full:
                    decoder.admit(self._waiting.popleft())
                for outcome in decoder.turn():
                    self._of[outcome.running].add(outcome)
            except BaseException:
                decoder.release_all()
                raise


class _Collected:
    """What a job has given so far."""

    def __init__(self) -> None:
        self.new: list[TokenScore] = []
        self.prompt: tuple[TokenScore, ...] = ()
        self.reason: FinishReason | None = None

    def add(self, outcome: Outcome) -> None:
        if outcome.error:
            raise outcome.error
        for event in outcome.events:
            match event:
                case NewToken(score):
                    self.new.append(score)
                case PromptScored(scores):
                    self.prompt = scores
                case Finished(reason):
                    self.reason = reason
