"""Validation on pairs of answers: the loss and TRL's metrics over those held back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from trainer.data.batches import to_tensors
from trainer.data.pairs import HeldPairs
from trainer.distributed.group import ALONE
from trainer.loop.hooks import Purpose
from trainer.loop.micro_batch import MicroBatch, losses_of
from trainer.loop.session import Session


@dataclass(frozen=True)
class PairEvaluation:
    """Means over pairs. `named` has the rewards and log-probabilities by TRL's names."""

    loss: float
    named: dict[str, float]

    @property
    def metric(self) -> str:
        """Which of the metrics tells how good the model is."""
        return "val_loss"

    @property
    def metrics(self) -> dict[str, float]:
        """What is recorded."""
        return {"val_loss": self.loss, **{f"val_{key}": value for key, value in self.named.items()}}

    def __str__(self) -> str:
        share = self.named["rewards/accuracies"]
        return f"val_loss: {self.loss:.4f} | preferred: {100 * share:.1f} % of the pairs"


@torch.no_grad()
def evaluate_pairs(
    session: Session,
    held: HeldPairs,
    micro_batch: MicroBatch,
    progress: Callable[[], None],
    before_forward: Callable[[Purpose, int], None],
) -> PairEvaluation:
    """Evaluate the model of `session`, dropout off. Draws no random number.

    The ranks share the pairs, if there are enough, and get the means over all.
    """
    model, compute = session.model, session.compute
    was_training = model.training
    model.eval()
    sums: dict[str, float] = {}
    group = session.group if len(held) >= session.group.world.size else ALONE
    done, share = group.share(len(held))
    end = done + share
    while done < end:
        for attempt in micro_batch.attempts():
            with attempt:
                count = min(micro_batch.size, end - done)
                before_forward("evaluate", count)
                batch = to_tensors(held.batch(done, count), compute.device)
                with compute.autocast():
                    losses = losses_of(session.learner.eager, batch)
        for name, value in {"": losses.total, **losses.named}.items():
            sums[name] = sums.get(name, 0.0) + value.item() * count
        done += count
        progress()
    model.train(was_training)
    added = group.add(*sums.values())
    means = {name: value / len(held) for name, value in zip(sums, added, strict=True)}
    return PairEvaluation(means.pop(""), means)
