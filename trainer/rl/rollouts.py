"""Rollouts: prompts answered by the model and judged, shared by the ranks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trainer.rewards.interface import Answer, Verdict
from trainer.rl.judging import Judging
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
    """The groups in the order they were asked, and what they took on the slowest rank.

    `rollout_seconds` passed until the last answer was written, and `reward_seconds` from then on
    until the last one was judged.
    """

    groups: tuple[Group, ...]
    rollout_seconds: float
    reward_seconds: float


class Rollouts:
    """Answers prompts with `engine` and judges the answers. Every rank gets all of them.

    With `ahead`, answers are judged by a thread while others are still written.
    """

    def __init__(
        self,
        engine: Engine,
        language: Language,
        ranks: Ranks,
        *,
        ahead: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._engine, self._language, self._ranks = engine, language, ranks
        self._ahead, self._clock = ahead, clock

    def answer(self, asked: Sequence[Asked]) -> Answered:
        """Raises RunError if an output is not finite, or nothing can be judged."""
        first, count = self._ranks.share(len(asked))
        mine = asked[first : first + count]
        owners = [one for one in mine for _ in one.seeds]
        requests = [Request(one.ids, seed, one.given) for one in mine for seed in one.seeds]
        found: dict[int, Sampled] = {}
        started = self._clock()
        with Judging(self._language, ahead=self._ahead) as judging:

            def finished(place: int, sampled: Sampled) -> None:
                found[place] = sampled
                owner = owners[place]
                judging.add(place, Answer(owner.prompt, owner.given + sampled.text))

            self._engine.sample(requests, finished)
            written = self._clock()
            verdicts = judging.verdicts()
        judged = self._clock()
        places = iter(range(len(requests)))
        of_each = [[next(places) for _ in one.seeds] for one in mine]
        groups = self._of_all(
            asked,
            [[found[place] for place in of_one] for of_one in of_each],
            [[verdicts[place] for place in of_one] for of_one in of_each],
        )
        spent = self._ranks.agree(written - started, judged - written)
        return Answered(tuple(groups), *spent)

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
