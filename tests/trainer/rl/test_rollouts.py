"""Rollouts: each answer with its own verdict, judged while others are written."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from shared.errors import RunError
from tests.waiting import until
from trainer.distributed.group import ALONE
from trainer.rewards.interface import Answer, Verdict
from trainer.rl.judging import TOGETHER, Judging
from trainer.rl.prompts import Asked
from trainer.rl.rollouts import Rollouts
from trainer.rl.sampled import Finished, Request, Sampled
from trainer.tasks.prompt import Prompt


@dataclass
class Echo:
    """Answers with the seed, in the reverse order; `before` is called before each answer."""

    before: object = None
    written: int = 0

    def sample(self, requests: Sequence[Request], finished: Finished) -> None:
        for place, request in reversed(list(enumerate(requests))):
            if callable(self.before):
                self.before(self.written)
            finished(place, Sampled((request.seed,), (0.0,), f"<{request.seed}>", truncated=False))
            self.written += 1


@dataclass
class Counting:
    """Judges by the length of an answer, and remembers which thread was asked for how many."""

    name: str = "rust"
    compiler: str = "none"
    runs_tests: bool = False
    parts: tuple[str, ...] = ("parse",)
    asked: list[tuple[str, int]] = field(default_factory=list)
    error: Exception | None = None

    def stops(self, completion: str) -> int | None:
        return None

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        self.asked.append((threading.current_thread().name, len(answers)))
        if self.error:
            raise self.error
        return [
            Verdict(0.5, {"parse": 0.5}, True, True, None, (), f"{a.prompt.id}{a.completion}")
            for a in answers
        ]

    def close(self) -> None:
        pass


def asked(prompts: int, answers: int) -> list[Asked]:
    return [
        Asked(
            Prompt(f"p{number}", "fn", "rust"),
            (1, 2),
            tuple(range(100 * number, 100 * number + answers)),
            f"given {number} ",
        )
        for number in range(prompts)
    ]


def judges() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "judging"]


@pytest.mark.parametrize("ahead", [True, False])
def test_every_answer_has_its_own_verdict(ahead: bool) -> None:
    language = Counting()
    answered = Rollouts(Echo(), language, ALONE, ahead=ahead).answer(asked(3, 2))
    assert [group.asked.prompt.id for group in answered.groups] == ["p0", "p1", "p2"]
    for number, group in enumerate(answered.groups):
        for seed, sampled, verdict in zip(
            group.asked.seeds, group.answers, group.verdicts, strict=True
        ):
            assert sampled.tokens == (seed,)
            assert verdict.source == f"p{number}given {number} <{seed}>"
    assert sum(count for _, count in language.asked) == 6
    assert {name == "judging" for name, _ in language.asked} == {ahead}
    assert not judges()


def test_answers_are_judged_while_others_are_written() -> None:
    language = Counting()

    def wait_for_a_verdict(written: int) -> None:
        if written == TOGETHER:
            until(lambda: bool(language.asked))

    answered = Rollouts(Echo(wait_for_a_verdict), language, ALONE).answer(asked(3, 16))
    assert [count for _, count in language.asked] == [TOGETHER, 48 - TOGETHER]
    assert len(answered.groups) == 3


@pytest.mark.parametrize("ahead", [True, False])
def test_what_goes_wrong_in_judging_is_raised(ahead: bool) -> None:
    language = Counting(error=RunError("no rustc"))
    with pytest.raises(RunError, match="no rustc"):
        Rollouts(Echo(), language, ALONE, ahead=ahead).answer(asked(3, 16))
    assert not judges()


def test_what_is_given_up_is_not_judged_to_its_end() -> None:
    def interrupt(written: int) -> None:
        if written == 3:
            raise KeyboardInterrupt

    language = Counting()
    with pytest.raises(KeyboardInterrupt):
        Rollouts(Echo(interrupt), language, ALONE).answer(asked(3, 16))
    assert not language.asked and not judges()


def test_the_time_of_judging_is_told() -> None:
    times = iter((1.0, 3.5))
    with Judging(Counting(), ahead=False, clock=lambda: next(times)) as judging:
        judging.add(0, Answer(Prompt("p", "fn", "rust"), ""))
        assert set(judging.verdicts()) == {0}
        assert judging.seconds == 2.5
