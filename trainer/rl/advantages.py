"""From the rewards of answers to their advantages: how much better than the others of its group.

P prompts, G answers to each, K parts of a reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.rewards.interface import Verdict

EPSILON = 1e-4  # added to standard deviations, as TRL does
SAME = 1e-9  # rewards closer than this are the same


def parts_of(verdicts: Sequence[Verdict], names: Sequence[str]) -> NDArray[np.float64]:
    """The points of each part, (answers, K); 0 for a part that a verdict does not have."""
    rows = [[verdict.parts.get(name, 0.0) for name in names] for verdict in verdicts]
    return np.array(rows, dtype=np.float64).reshape(len(verdicts), len(names))


def weights_of(names: Sequence[str], weights: Mapping[str, float]) -> NDArray[np.float64]:
    """The weight of each part, (K,); 1 for those without one."""
    return np.array([weights.get(name, 1.0) for name in names], dtype=np.float64)


def varies(parts_GK: NDArray[np.float64], weights_K: NDArray[np.float64], *, each: bool) -> bool:
    """Whether the answers of a group are worth different rewards, so that they teach something;
    with `each` in any part that has a weight, otherwise in the sum."""
    if each:
        return bool((np.ptp(parts_GK, axis=0)[weights_K > 0] > SAME).any())
    return bool(np.ptp(parts_GK.sum(axis=1)) > SAME)


def advantages(
    parts_PGK: NDArray[np.float64], weights_K: NDArray[np.float64], *, each: bool
) -> NDArray[np.float64]:
    """The advantage of every answer, (P, G).

    Of one reward, and of the sum of several unless `each`: A = r - mean of the group. It is not
    divided by the group's standard deviation, which would favour prompts that are nearly always or
    nearly never solved (Liu et al. 2025, Dr. GRPO, arXiv 2503.20783).

    With `each` every part is normalized by itself, A = sum_k w_k (r_k - mean_k) / (std_k + eps)
    within the group, and the sums by their standard deviation over all answers (Liu et al. 2026,
    GDPO, arXiv 2601.05242). Parts of very different scale then keep a voice each. Here the division
    is what makes them comparable; Dr. GRPO's objection to it stands, and is weighed less.
    """
    if not each or parts_PGK.shape[2] == 1:
        sums_PG = parts_PGK.sum(axis=2)
        return sums_PG - sums_PG.mean(axis=1, keepdims=True)
    centred_PGK = parts_PGK - parts_PGK.mean(axis=1, keepdims=True)
    spread_P1K = parts_PGK.std(axis=1, ddof=1, keepdims=True)
    # Rounding must not be blown up to a difference.
    spread_P1K[np.ptp(parts_PGK, axis=1, keepdims=True) <= SAME] = np.inf
    summed_PG = (centred_PGK / (spread_P1K + EPSILON) * weights_K).sum(axis=2)
    if summed_PG.size < 2:
        return np.zeros_like(summed_PG)
    return (summed_PG - summed_PG.mean()) / (summed_PG.std(ddof=1) + EPSILON)
