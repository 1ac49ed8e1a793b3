"""pass@k: the chance that at least one of k answers to a task is right, without bias."""

from __future__ import annotations

import math
from collections.abc import Sequence

KS = (1, 5, 10, 16)


def pass_at_k(answers: int, right: int, k: int) -> float:
    """The estimate from `answers` to one task, of which `right` are right.

    1 - C(answers - right, k) / C(answers, k), as in the HumanEval paper (Chen et al. 2021). It
    needs at least `k` answers.
    """
    assert 0 <= right <= answers and 1 <= k <= answers
    return 1.0 - math.comb(answers - right, k) / math.comb(answers, k)


def mean_pass_at_k(counts: Sequence[tuple[int, int]], k: int) -> float:
    """The mean over tasks; `counts` has (answers, right answers) of each."""
    return math.fsum(pass_at_k(answers, right, k) for answers, right in counts) / len(counts)


def possible_ks(answers: int) -> tuple[int, ...]:
    """Those of 1, 5, 10 and 16 for which `answers` per task are enough."""
    return tuple(k for k in KS if k <= answers)
