"""From judged answers to the figures of a suite, each with its 95 % interval.

Intervals are over groups of tasks: tasks made from one template are alike, and so are answers to
one task.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from shared.checkpoints.suites import Figure
from trainer.evaluate.suites.intervals import (
    Interval,
    mean_interval,
    rate_interval,
    share_interval,
)
from trainer.evaluate.suites.judged import Judged
from trainer.evaluate.suites.pass_at_k import pass_at_k, possible_ks
from trainer.evaluate.suites.suite import Suite, group_of
from trainer.rewards.quality import Quality

#: A number of successes and trials, or a sum and a count, that an answer adds; None for nothing.
Share = Callable[[Judged], "tuple[float, float] | None"]


def figures_of(suite: Suite, answers: Iterable[Judged], *, tests_run: bool) -> dict[str, Figure]:
    """The figures of `answers`, which may be a part of those to the suite.

    `tests_run`: whether the tests of tasks were run. pass@k is over the tasks with most answers.
    """
    groups = {prompt.id: group_of(prompt) for prompt in suite.prompts}
    with_tests = {prompt.id for prompt in suite.prompts if prompt.tests and tests_run}
    judged = [answer for answer in answers if answer.task in groups]
    if not judged:
        return {}
    summary = _Summary(judged, groups)
    found: dict[str, Figure | None] = {
        "parse_rate": summary.rate(lambda a: (a.parsed, 1)),
        "compile_rate": summary.rate(lambda a: (a.compiled, 1)),
        "test_rate": summary.rate(
            lambda a: (a.tested is True, 1) if a.task in with_tests else None
        ),
        "reward": summary.mean(lambda a: (a.reward, 1)),
        "ended": summary.rate(lambda a: (a.ending in ("end", "stop"), 1)),
        "length": summary.mean(lambda a: (a.tokens, 1)),
        **summary.chances("pass", lambda a: a.tested is True, with_tests, first=1),
        **summary.chances("compile", lambda a: a.compiled, set(groups), first=2),
        **{name: summary.rate(_of(share)) for name, share in _QUALITY_RATES.items()},
        **{name: summary.mean(_of(share)) for name, share in _QUALITY_MEANS.items()},
    }
    return {name: figure for name, figure in found.items() if figure is not None}


_QUALITY_RATES: Mapping[str, Callable[[Quality], tuple[float, float]]] = {
    "iterators": lambda q: (q.iterators, 1),
    "closures": lambda q: (q.closures, 1),
    "match": lambda q: (q.match, 1),
    "idiomatic": lambda q: (q.iterators or q.closures, 1),
    "error_handling": lambda q: (q.error_handling, 1),
    "documented": lambda q: (q.documented, q.own_functions),
}
_QUALITY_MEANS: Mapping[str, Callable[[Quality], tuple[float, float]]] = {
    "complexity": lambda q: (q.complexity, q.functions),
    "nesting": lambda q: (q.nesting, q.functions),
}


def _of(share: Callable[[Quality], tuple[float, float]]) -> Share:
    return lambda answer: share(answer.quality) if answer.quality else None


class _Summary:
    """Answers, and the group that each task is in."""

    def __init__(self, answers: Sequence[Judged], groups: Mapping[str, str]) -> None:
        self._answers, self._groups = answers, groups

    def rate(self, share: Share) -> Figure | None:
        """Successes of trials."""
        sums = self._sums(share)
        counts = [(round(got), round(tried)) for got, tried in sums]
        if not counts:
            return None
        got, tried = (sum(column) for column in zip(*counts, strict=True))
        return Figure(got / tried, *rate_interval(counts), count=tried)

    def mean(
        self,
        share: Share,
        interval: Callable[[Sequence[tuple[float, float]]], Interval] = mean_interval,
    ) -> Figure | None:
        """The mean of a number."""
        sums = self._sums(share)
        if not sums:
            return None
        total, count = (sum(column) for column in zip(*sums, strict=True))
        return Figure(total / count, *interval(sums), count=round(count))

    def chances(
        self, name: str, is_right: Callable[[Judged], bool], tasks: set[str], *, first: int
    ) -> dict[str, Figure | None]:
        """`name`@k for each k from `first` for which there are enough answers."""
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for answer in self._answers:
            if answer.task in tasks:
                counts[answer.task][0] += 1
                counts[answer.task][1] += is_right(answer)
        most = max((answers for answers, _ in counts.values()), default=0)
        whole = {task: right for task, (answers, right) in counts.items() if answers == most}
        found: dict[str, Figure | None] = {}
        for k in possible_ks(most):
            if k < first:
                continue
            sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
            for task, right in whole.items():
                group = sums[self._groups[task]]
                group[0] += pass_at_k(most, right, k)
                group[1] += 1
            groups = [(total, count) for total, count in sums.values()]
            total, count = (sum(column) for column in zip(*groups, strict=True))
            found[f"{name}@{k}"] = Figure(
                total / count, *share_interval(groups), count=round(count)
            )
        return found

    def _sums(self, share: Share) -> list[tuple[float, float]]:
        """The sum over each group that has any."""
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for answer in self._answers:
            part = share(answer)
            if part is not None and part[1]:
                group = sums[self._groups[answer.task]]
                group[0] += part[0]
                group[1] += part[1]
        return [(total, count) for total, count in sums.values()]
