"""Rollouts: prompts answered by the model and judged, shared by the ranks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trainer.rewards.interface import Answer, Verdict
from trainer.rl.sampled import Request, Sampled

if TYPE_CHECKING:
    from trainer.distributed.group import Group as Ranks
    from trainer.rewards.interface import Language
    from trainer.rl.prompts import Asked
    from trainer.rl.sampled import Engine


@dataclass(frozen=True)
class Group:
    """A prompt with its answers and what each is worth."""

    asked: Asked
    answers: tuple[Sampled, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Answered:
    """The groups in the order they were asked, and the seconds that answering and judging took on
    the slowest rank."""

    groups: tuple[Group, ...]
    rollout_seconds: float
    reward_seconds: float


class Rollouts:
    """Answers prompts with `engine` and judges the answers. Every rank gets all of them."""

    def __init__(
        self,
        engine: Engine,
        language: Language,
        ranks: Ranks,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._engine, self._language, self._ranks = engine, language, ranks
        self._clock = clock

    def answer(self, asked: Sequence[Asked]) -> Answered:
        """Raises RunError if an output is not finite."""
        first, count = self._ranks.share(len(asked))
        mine = asked[first : first + count]
        started = self._clock()
        answers = self._answers(mine)
        generated = self._clock()
        verdicts = self._verdicts(mine, answers)
        judged = self._clock()
        groups = self._of_all(asked, answers, verdicts)
        spent = self._ranks.agree(generated - started, judged - generated)
        return Answered(tuple(groups), *spent)

    def _answers(self, asked: Sequence[Asked]) -> list[list[Sampled]]:
        requests = [Request(one.ids, seed, one.given) for one in asked for seed in one.seeds]
        found: dict[int, Sampled] = {}
        self._engine.sample(requests, found.__setitem__)
        every = iter(found[place] for place in range(len(requests)))
        return [[next(every) for _ in one.seeds] for one in asked]

    def _verdicts(
        self, asked: Sequence[Asked], answers: Sequence[Sequence[Sampled]]
    ) -> list[list[Verdict]]:
        told = [
            Answer(one.prompt, one.given + sampled.text)
            for one, group in zip(asked, answers, strict=True)
            for sampled in group
        ]
        every = iter(self._language.judge(told) if told else ())
        return [[next(every) for _ in group] for group in answers]

    def _of_all(
        self,
        asked: Sequence[Asked],
        answers: Sequence[Sequence[Sampled]],
        verdicts: Sequence[Sequence[Verdict]],
    ) -> list[Group]:
        """The groups of all ranks, as JSON by way of the first."""
        if self._ranks.alone:
            return [
                Group(one, tuple(said), tuple(worth))
                for one, said, worth in zip(asked, answers, verdicts, strict=True)
            ]
        mine = [
            [[asdict(s) for s in said], [_told(v) for v in worth]]
            for said, worth in zip(answers, verdicts, strict=True)
        ]
        pieces = self._ranks.gather(json.dumps(mine).encode())
        every: list[Any] = self._ranks.decided(
            lambda: [group for piece in pieces for group in json.loads(piece)]
        )
        return [
            Group(one, tuple(map(_sampled, said)), tuple(map(_verdict, worth)))
            for one, (said, worth) in zip(asked, every, strict=True)
        ]


def _told(verdict: Verdict) -> dict[str, Any]:
    return {**vars(verdict), "parts": dict(verdict.parts)}


def _verdict(told: dict[str, Any]) -> Verdict:
    return Verdict(**{**told, "messages": tuple(told["messages"])})


def _sampled(told: dict[str, Any]) -> Sampled:
    return Sampled(tuple(told["tokens"]), tuple(told["logprobs"]), told["text"], told["truncated"])
