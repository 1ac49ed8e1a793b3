"""A run's position as a checkpoint holds it. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from shared.checkpoints.catalogue import OPTIMIZER, TRAINER_STATE, has_file
from shared.errors import UserError
from shared.files import read_json


class Position(NamedTuple):
    """What every step moves; see `Progress`."""

    step: int
    samples: int
    tokens_total: int
    total_forward: int
    total_backward: int


@dataclass
class Progress:
    """A run's position: what resume needs besides weights, optimizer and generators.

    `samples` is the position in the data: the training sequences used so far. `skipped_samples` of
    them were skipped by rollbacks. `rollbacks` counts the rollbacks since a checkpoint was saved
    after the step `rolled_back_from`. `recent_losses` is the window for spike detection. `seconds`
    is the time of all steps, in every attempt. `evaluations_without_improvement` are those in a row
    whose validation loss was not the lowest. `hybrid` is where a run is between predictions of its
    weights, `rl` where reinforcement learning is in its prompts. Losses before step
    `comparable_from` are not comparable with those since.
    """

    step: int = 0
    samples: int = 0
    tokens_total: int = 0
    total_forward: int = 0
    total_backward: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    best_metric: str = ""
    loss: float | None = None
    val_loss: float | None = None
    val_reward: float | None = None
    skipped_samples: int = 0
    rollbacks: int = 0
    rolled_back_from: int = 0
    seconds: float = 0.0
    evaluations_without_improvement: int = 0
    comparable_from: int = 0
    recent_losses: list[float] = field(default_factory=list)
    hybrid: dict[str, Any] = field(default_factory=dict)
    rl: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def forget_best(self) -> None:
        """Losses measured so far are not comparable with those to come."""
        self.best_loss = self.best_step = None
        self.best_metric = ""
        self.evaluations_without_improvement = 0
        self.comparable_from = self.step + 1

    @property
    def position(self) -> Position:
        """Where it is, as far as every step moves it."""
        return Position(
            self.step, self.samples, self.tokens_total, self.total_forward, self.total_backward
        )

    @position.setter
    def position(self, position: Position) -> None:
        self.step, self.samples, self.tokens_total = position[:3]
        self.total_forward, self.total_backward = position[3:]


def read_progress(folder: Path) -> tuple[Progress, dict[str, Any]]:
    """The run's position at a checkpoint, and the generator states kept as JSON.

    Raises UserError if the checkpoint holds weights only.
    """
    state = read_json(folder / TRAINER_STATE)
    if state is None or not has_file(folder, OPTIMIZER):
        raise UserError(
            f"The checkpoint {folder.name} cannot be resumed: it has no {TRAINER_STATE} and "
            f"{OPTIMIZER}; it holds weights only."
        )
    known = {f.name for f in fields(Progress)}
    progress = Progress(**{k: v for k, v in state.items() if k in known})
    progress.facts["data"] = state.get("data")
    progress.facts["compute"] = state.get("compute")
    return progress, state.get("random") or {}
