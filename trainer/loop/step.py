"""One optimizer step: batch, forward and backward over micro-batches, clipping, the update."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.loop.feed import Place
from trainer.loop.hooks import NO_HOOKS, Hooks
from trainer.loop.micro_batch import MicroBatch, Undo, losses_of
from trainer.loop.out_of_memory import check_together, out_of_memory_together
from trainer.loop.session import Session
from trainer.optim.clipping import clip_gradients, suspect
from trainer.optim.optimizer import Optimizer
from trainer.optim.schedule import learning_rate


class Part(NamedTuple):
    """One micro-batch: its mean losses on the device, and its size.

    `loss` is in nats per token over the `tokens` that it is about (the sum of their weights, if
    they have any). `named` holds the further losses of the model, means over the `counted` tokens
    of the data.
    """

    loss: Tensor
    named: dict[str, Tensor]
    tokens: Tensor
    counted: float
    sequences: int


@dataclass(frozen=True)
class StepResult:
    """One step: mean loss in nats per token, gradient norm before clipping, seconds.

    `updated` is False if the update was skipped. `layer` is then the parameter with the largest
    gradient, or the one nearest to the output whose gradient is not finite. `named` holds the means
    of the model's further losses.
    """

    loss: float
    gradient_norm: float
    learning_rate: float
    seconds: float
    updated: bool = True
    layer: str = ""
    named: dict[str, float] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


def train_step(
    session: Session,
    micro_batch: MicroBatch,
    skip_above: float = math.inf,
    hooks: Hooks = NO_HOOKS,
) -> StepResult:
    """Train on the next sequences.

    The update is skipped if the loss is above `skip_above`, or if loss or gradient is not finite.
    """
    started = time.perf_counter()
    config, optimizer = session.config, session.optimizer
    rate = learning_rate(config.optim, session.progress.step + 1, session.max_steps)
    for attempt in micro_batch.attempts(Undo(session)):
        with attempt, out_of_memory_together(session.group):
            parts = forward_backward(session, micro_batch, hooks)
            passes = len(parts)
            parts = of_all_ranks(session, parts)
            hooks.after_backward(session, parts)
            hooks.enter("optimizer")
            norms = clip_gradients(session.parameters, config.optim.grad_clip)
    loss, updated = update_unless_unwanted(optimizer, rate, parts, norms.total, skip_above)
    norm = norms.total.item()
    layer = "" if updated else suspect(session.parameters, norms)
    optimizer.zero_grad()
    advance(session, passes, loss)
    optimizer.averages.update(session.progress.step, session.max_steps)
    hooks.enter("other")
    (seconds,) = session.group.agree(time.perf_counter() - started)
    session.progress.seconds += seconds
    return StepResult(loss, norm, rate, seconds, updated, layer, mean_named(parts))


def forward_backward(session: Session, micro_batch: MicroBatch, hooks: Hooks) -> list[Part]:
    """Add the gradient of the step's mean loss, one micro-batch of this rank's share at a time.

    A micro-batch weighs as much as the share of the step's tokens that its loss is about. How many
    that are in all is known only at the end where the model chooses among the data's counted ones.
    """
    group, parallel = session.group, session.learner.parallel
    sequences = session.config.sequences_per_step
    offset, share = group.share(sequences)
    counts = tuple(micro_batch.parts(share))
    hooks.enter("data")
    data = session.feed.step(Place(session.progress.samples, sequences, counts, offset))
    expected = data.expected or 1.0
    # The first time, until it is known that this size fits: a rank that runs out of memory in the
    # middle of an exchange leaves the others waiting.
    late = micro_batch.untried and parallel.can_wait
    parts: list[Part] = []
    for count, batch, counted in zip(counts, data.batches, data.counted, strict=True):
        hooks.before_forward("train", count)
        reduce = len(parts) == len(counts) - 1 and not late
        with parallel.passing(reduce=reduce):
            hooks.enter("forward")
            with session.compute.autocast():
                losses = losses_of(session.forward, batch)
            if reduce:
                check_together(group)
            hooks.enter("backward")
            # The gradients of all ranks are reduced to their mean, and these are parts of a sum.
            weight = losses.counted * (group.world.size / expected)
            (losses.total if count == sequences else losses.total * weight).backward()
        parts.append(Part(losses.total.detach(), losses.named, losses.counted, counted, count))
    if late:
        check_together(group)
        parallel.reduce(session.parameters)
    micro_batch.untried = False
    if group.alone and len(parts) > 1:
        _scale_gradients(session, expected / _total(parts))
    return parts


def of_all_ranks(session: Session, parts: list[Part]) -> list[Part]:
    """The parts, or where several ranks have made some one part that stands for all of them.

    The gradients are then scaled to be about as many tokens as there were.
    """
    group, config = session.group, session.config
    if group.alone:
        return parts
    names = sorted(parts[0].named)
    sums = torch.stack(
        [
            _sum(part.loss * part.tokens for part in parts),
            _sum(part.tokens for part in parts),
            *(_sum(part.named[name] * part.counted for part in parts) for name in names),
        ]
    )
    group.total(sums)
    counted = session.sources.train.counted(session.progress.samples, config.sequences_per_step)
    tokens = sums[1]
    loss = (sums[0] / (tokens + (tokens == 0))).float()
    named = {name: (sums[2 + i] / (counted or 1)).float() for i, name in enumerate(names)}
    whole = Part(loss, named, tokens, counted, config.sequences_per_step)
    _scale_gradients(session, ((counted or 1.0) / _total([whole])).float())
    return [whole]


def _sum(values: Iterable[Tensor]) -> Tensor:
    return torch.stack([value.double() for value in values]).sum()


def _scale_gradients(session: Session, scale: Tensor) -> None:
    """Multiply every gradient by a scalar on the device."""
    if scale.device.type == "cpu" and scale.item() == 1.0:
        return
    gradients = [p.grad for p in session.parameters.values() if p.grad is not None]
    torch._foreach_mul_(gradients, scale)


def update_unless_unwanted(
    optimizer: Optimizer, rate: float, parts: list[Part], norm: Tensor, skip_above: float
) -> tuple[float, bool]:
    """Update the weights, or skip it. Returns the step's mean loss, and whether it was updated.

    On CUDA the update is queued before the host waits for the loss.
    """
    if norm.device.type == "cuda":
        skip = unwanted_on_device(parts, norm, skip_above)
        optimizer.step(rate, skip)
        return mean_loss(parts), not skip
    loss = mean_loss(parts)
    updated = not unwanted(loss, norm.item(), skip_above)
    optimizer.step(rate, skip=not updated)
    return loss, updated


def unwanted(loss: float, norm: float, skip_above: float) -> bool:
    """Whether the update must be skipped."""
    return not (math.isfinite(norm) and math.isfinite(loss) and loss <= skip_above)


def unwanted_on_device(parts: list[Part], norm: Tensor, skip_above: float) -> Tensor:
    """The same as a tensor on the device: 1.0 if the update must be skipped, else 0.0."""
    mean = sum((part.loss * part.tokens for part in parts), torch.zeros_like(norm)) / _total(parts)
    # NaN compares as False, so it counts as unwanted.
    return (~(norm.isfinite() & (mean <= skip_above) & mean.isfinite())).float()


def mean_loss(parts: list[Part]) -> float:
    """The mean over all tokens that the step's loss is about."""
    sizes = [part.tokens.item() for part in parts]
    return _mean([part.loss for part in parts], sizes)


def mean_named(parts: list[Part]) -> dict[str, float]:
    """The means of the model's further losses."""
    sizes = [part.counted for part in parts]
    return {name: _mean([part.named[name] for part in parts], sizes) for name in parts[0].named}


def _mean(values: list[Tensor], sizes: list[float]) -> float:
    """The mean over all parts of their means."""
    if len(values) == 1:
        return values[0].item()
    pairs = zip(values, sizes, strict=True)
    return sum(value.item() * size for value, size in pairs) / (sum(sizes) or 1)


def _total(parts: list[Part]) -> Tensor:
    """The tokens of all parts; 1 if there are none, so that a mean over them is 0."""
    total = torch.stack([part.tokens for part in parts]).sum()
    return total + (total == 0)


def advance(session: Session, passes: int, loss: float) -> None:
    """Move the session's position past the step, for which so many passes were made."""
    progress = session.progress
    progress.step += 1
    progress.samples += session.config.sequences_per_step
    progress.tokens_total += session.config.tokens_per_step
    progress.total_forward += passes
    progress.total_backward += passes
    progress.loss = loss if math.isfinite(loss) else None
