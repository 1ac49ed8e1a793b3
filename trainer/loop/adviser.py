"""Looking at the curves of a run while it trains, and telling what they suggest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shared.run.advice import advise
from shared.run.metrics_rows import Series
from shared.run_writer import RunWriter
from trainer.loop.step import StepResult
from trainer.rl.onset import Onset

#: Steps that are remembered at most; then every other one is forgotten.
MOST = 8192
_KEYS = ("loss", "learning_rate", "tokens_per_second")


class Adviser:
    """Remembers the steps of this attempt. Each kind of advice is told once."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._steps: list[tuple[float, ...]] = []
        self._held: list[tuple[float, float]] = []
        self._every = 1
        self._told: set[str] = set()

    def take(self, result: StepResult, tokens_per_second: float) -> None:
        """Take in a step."""
        step = result.position.step
        if self._steps and step <= self._steps[-1][0]:  # steps before were rolled back
            self._steps = [one for one in self._steps if one[0] < step]
            self._held = [one for one in self._held if one[0] < step]
        if step % self._every:
            return
        self._steps.append((step, result.loss, result.learning_rate, tokens_per_second))
        if len(self._steps) > MOST:
            self._every *= 2
            self._steps = [one for one in self._steps if one[0] % self._every == 0]

    def forget(self) -> None:
        """Begin anew: the model is another one, and its curves are not comparable."""
        self._steps, self._held, self._every = [], [], 1

    def look(self, step: int, val_loss: float) -> None:
        """Take in a validation, and tell what is new."""
        self._held.append((step, val_loss))
        columns = np.array(self._steps, dtype=np.float64).reshape(-1, 1 + len(_KEYS)).T
        at = columns[0].astype(np.int64)
        loss, rate, speed = (
            Series(key, at, values) for key, values in zip(_KEYS, columns[1:], strict=True)
        )
        held = np.array(self._held).T
        validation = Series("val_loss", held[0].astype(np.int64), held[1])
        for advice in advise(loss, validation, speed, rate):
            if advice.kind in self._told:
                continue
            self._told.add(advice.kind)
            self._writer.event("advice", rule=advice.kind, step=step, message=str(advice))
            self._writer.say(f"[INFO] step {step} | {advice}")


class RewardAdviser:
    """The same for a run with rewards: whether it learns its tasks, or what the reward pays for."""

    #: Iterations between two looks where nothing is held out.
    EVERY = 10

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._onset = Onset()
        self._taken = 0

    def take(self, step: int, figures: Mapping[str, float]) -> None:
        """Take in what is recorded of a step. Only the first one of an iteration has rewards."""
        evaluated = "val_reward" in figures
        if not evaluated and "reward_mean" not in figures:
            return
        self._onset.take(step, figures)
        self._taken += "reward_mean" in figures
        if not evaluated and self._taken % self.EVERY:
            return
        for advice in self._onset.look():
            self._writer.event("advice", rule=advice.kind, step=step, message=str(advice))
            self._writer.say(f"[WARN] step {step} | {advice}")
