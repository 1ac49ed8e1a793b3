"""Whether a model writes anything worth rewarding: measured before the first iteration.

Reinforcement learning makes likelier what a model writes now and then. Where none of many answers
compiles, every answer of a group is worth the same, and there is nothing to learn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.text import plural
from trainer.evaluate.suites.intervals import Interval, share_interval
from trainer.evaluate.suites.pass_at_k import pass_at_k
from trainer.rewards.interface import Verdict

K = 16  # answers of which one must compile
PROMPTS = 32  # that are answered to find out


@dataclass(frozen=True)
class PassRate:
    """pass@16 on some prompts: the chance that at least one of 16 answers compiles.

    `interval` holds it in 95 % of cases. `answers` were judged in all, of which `compiled` do.
    """

    rate: float
    interval: Interval
    prompts: int
    answers: int
    compiled: int

    def __str__(self) -> str:
        low, high = (100 * bound for bound in self.interval)
        return (
            f"pass@{K} is {100 * self.rate:.1f} % (95 % interval {low:.1f} to {high:.1f} %; "
            f"{self.compiled:,} of {plural(self.answers, 'answer')} to "
            f"{plural(self.prompts, 'prompt')} compile)"
        )


def answers_for(group_size: int) -> int:
    """Answers to each prompt: without 16 there is no unbiased estimate of pass@16."""
    return max(K, group_size)


def pass_rate(verdicts: Sequence[Sequence[Verdict]]) -> PassRate:
    """The estimate from the verdicts on each prompt's answers, 16 or more."""
    counts = [(len(of_one), sum(v.compiled for v in of_one)) for of_one in verdicts]
    rates = [pass_at_k(answers, right, K) for answers, right in counts]
    return PassRate(
        rate=sum(rates) / len(rates),
        interval=share_interval([(rate, 1.0) for rate in rates]),
        prompts=len(counts),
        answers=sum(answers for answers, _ in counts),
        compiled=sum(right for _, right in counts),
    )


def why_not(found: PassRate, bound: float, *, given: float, references: int) -> str:
    """Why training does not start, and what helps; empty if it does.

    `given` is the share of each reference answer that the prompts held, `references` how many
    prompts have one to give.
    """
    if found.rate >= bound:
        return ""
    with_given = f" even with {100 * given:.0f} % of each answer given" if given else ""
    if given:
        remedy = "Train the model longer on code of this language first"
    elif references:
        remedy = (
            "Train the model longer on code of this language first, or begin with most of each "
            f"answer given and shorten it (--curriculum; {plural(references, 'prompt')} "
            f"{'has' if references == 1 else 'have'} a reference answer)"
        )
    else:
        remedy = (
            "Train the model longer on code of this language first (a curriculum needs prompts "
            "with a `reference` answer, and these have none)"
        )
    return (
        f"The model does not write enough code that compiles{with_given}: {found}, and "
        f"rl.min_pass_rate is {100 * bound:g} %. Where no answer compiles, none is better than "
        f"another, and there is nothing to learn from. {remedy}; rl.min_pass_rate=0 starts anyway."
    )
