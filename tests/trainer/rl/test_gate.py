"""Training starts only where there is something to learn from."""

from __future__ import annotations

import pytest

from trainer.rewards.interface import Verdict
from trainer.rl.gate import answers_for, pass_rate, why_not


def verdicts(compiled: int, answers: int = 16) -> list[Verdict]:
    return [
        Verdict(reward=0.0, parts={}, parsed=True, compiled=number < compiled, tested=None)
        for number in range(answers)
    ]


def test_the_rate_is_that_of_prompts_with_an_answer_that_compiles() -> None:
    found = pass_rate([verdicts(0), verdicts(1), verdicts(16), verdicts(0)])
    assert found.rate == 0.5
    assert (found.prompts, found.answers, found.compiled) == (4, 64, 17)
    assert found.interval[0] < 0.5 < found.interval[1]


def test_more_answers_than_16_estimate_without_bias() -> None:
    # One of 32 is right: 16 of them, drawn without putting back, hold it in half of all cases.
    assert pass_rate([verdicts(1, 32)]).rate == pytest.approx(0.5)
    assert answers_for(4) == 16 and answers_for(64) == 64


def test_a_refusal_names_the_figure_the_bound_and_what_helps() -> None:
    found = pass_rate([verdicts(0)] * 31 + [verdicts(2)])
    assert why_not(found, 0.03, given=0.0, references=32) == ""
    told = why_not(found, 0.1, given=0.0, references=1)
    for part in ("3.1 %", "2 of 512 answers to 32 prompts", "10 %", "--curriculum", "1 prompt has"):
        assert part in told
    assert "have none" in why_not(found, 0.1, given=0.0, references=0)
    told = why_not(found, 0.1, given=0.8, references=32)
    assert "even with 80 % of each answer given" in told and "--curriculum" not in told


def test_a_bound_of_0_lets_everything_start() -> None:
    assert why_not(pass_rate([verdicts(0)]), 0.0, given=0.0, references=0) == ""
