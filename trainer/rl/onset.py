"""Watching a run for the onset of reward hacking, as its iterations and evaluations come."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shared.json_text import is_number
from shared.run.advice import Advice
from shared.run.metrics_rows import Series
from shared.run.reward_advice import advise_on_rewards

#: Iterations that are remembered at most; then every other one is forgotten.
MOST = 4096
_HELD_OUT = "val_"


class Onset:
    """Remembers the figures of this attempt. Each kind of advice is told once, and only if two
    looks in a row give it: one may be chance.
    """

    def __init__(self) -> None:
        self._curves: dict[str, list[tuple[int, float]]] = {}
        self._given: float | None = None
        self._before: set[str] = set()
        self._told: set[str] = set()

    def take(self, step: int, figures: Mapping[str, float]) -> None:
        """Take in what was recorded of an iteration or an evaluation.

        Figures of steps from `step` on are forgotten: these were rolled back. When a curriculum
        gives less of the answers, the curves of training begin anew.
        """
        given = figures.get("curriculum_share", self._given)
        if given != self._given:
            self._given = given
            self._curves = {k: v for k, v in self._curves.items() if k.startswith(_HELD_OUT)}
        for key, value in figures.items():
            if not is_number(value):
                continue
            curve = self._curves.setdefault(key, [])
            while curve and curve[-1][0] >= step:
                curve.pop()
            curve.append((step, float(value)))
            if len(curve) > MOST:
                del curve[: MOST // 2 : 2]

    def look(self) -> list[Advice]:
        """What is new to tell."""
        found = advise_on_rewards({key: _series(key, of) for key, of in self._curves.items()})
        new = [one for one in found if one.kind in self._before and one.kind not in self._told]
        self._before = {one.kind for one in found}
        self._told |= {one.kind for one in new}
        return new


def _series(key: str, curve: list[tuple[int, float]]) -> Series:
    steps, values = np.array(curve, dtype=np.float64).T
    return Series(key, steps.astype(np.int64), values)
