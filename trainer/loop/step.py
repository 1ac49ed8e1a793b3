"""One optimizer step: batch, forward and backward over micro-batches, clipping, the update."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.checkpoint.progress import Position
from trainer.loop.feed import Place
from trainer.loop.figures import Figures, Part, launched, mean_loss, mean_named
from trainer.loop.hooks import NO_HOOKS, Hooks
from trainer.loop.micro_batch import MicroBatch, Undo, losses_of
from trainer.loop.out_of_memory import (
    OutOfMemoryTogether,
    check_together,
    out_of_memory_ends,
)
from trainer.loop.session import Session
from trainer.optim.clipping import GradientNorms, clip_gradients, suspect
from trainer.optim.optimizer import Optimizer
from trainer.optim.schedule import learning_rate
from trainer.sharded import here


class StepResult(NamedTuple):
    """One step: mean loss in nats per token, gradient norm before clipping, seconds, and the
    position that it led to.

    `updated` is False if the update was skipped. `layer` is then the parameter with the largest
    gradient, or the one nearest to the output whose gradient is not finite. `named` holds the means
    of the model's further losses.
    """

    loss: float
    gradient_norm: float
    learning_rate: float
    seconds: float
    position: Position
    updated: bool
    layer: str
    named: dict[str, float]

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


class LaunchedStep:
    """A step whose work was handed to the device; `result` reads what it measured.

    `before` is the position that the step began at.
    """

    def __init__(
        self,
        session: Session,
        started: float,
        rate: float,
        norms: GradientNorms,
        read: Callable[[], Figures],
    ) -> None:
        self._session, self._started, self._rate = session, started, rate
        self._norms, self._read = norms, read
        self.before = self.after = session.progress.position

    def result(self, not_before: float = -math.inf) -> StepResult:
        """What the step measured. Waits for the device, but not for what was launched later.

        The step's time counts from its launch, or from `not_before` (`time.perf_counter`), until
        when the device was busy with the step before.
        """
        figures = self._read()
        took = time.perf_counter() - max(self._started, not_before)
        (seconds,) = self._session.group.agree(took)
        progress = self._session.progress
        progress.loss = figures.loss if math.isfinite(figures.loss) else None
        progress.seconds += seconds
        layer = suspect(self._norms) if figures.skipped else ""
        return StepResult(
            figures.loss,
            figures.norm,
            self._rate,
            seconds,
            self.after,
            not figures.skipped,
            layer,
            figures.named,
        )


def train_step(
    session: Session,
    micro_batch: MicroBatch,
    skip_above: float = math.inf,
    hooks: Hooks = NO_HOOKS,
) -> StepResult:
    """Train on the next sequences.

    The update is skipped if the loss is above `skip_above`, or if loss or gradient is not finite.
    """
    return launch_step(session, micro_batch, skip_above, hooks).result()


def launch_step(
    session: Session,
    micro_batch: MicroBatch,
    skip_above: float = math.inf,
    hooks: Hooks = NO_HOOKS,
    *,
    late: bool = False,
    began: float | None = None,
) -> LaunchedStep:
    """Begin a step as `train_step` makes it; its result can be read later. Its time counts from
    `began`, if work for it began before.

    On a GPU, and where its figures are read `late`, the host does not learn here whether the update
    is skipped.
    """
    started = time.perf_counter() if began is None else began
    config, optimizer = session.config, session.optimizer
    rate = learning_rate(config.optim, session.progress.step + 1, session.max_steps)
    group, parallel = session.group, session.learner.parallel
    for attempt in micro_batch.attempts(Undo(session)):
        together = OutOfMemoryTogether(group, micro_batch.size, can_wait=parallel.can_wait)
        with attempt, together:
            parts = forward_backward(session, micro_batch, hooks)
            passes = len(parts)
            parts = of_all_ranks(session, parts)
            hooks.after_backward(session, parts)
            hooks.enter("optimizer")
            limit, sharing = config.optim.grad_clip, parallel.sharing
            norms = clip_gradients(session.parameters, limit, sharing)
    read = update_unless_unwanted(optimizer, rate, parts, norms.total, skip_above, late=late)
    step = LaunchedStep(session, started, rate, norms, read)
    optimizer.zero_grad()
    advance(session, passes)
    step.after = session.progress.position
    optimizer.averages.update(session.progress.step, session.max_steps)
    hooks.enter("other")
    return step


def forward_backward(session: Session, micro_batch: MicroBatch, hooks: Hooks) -> list[Part]:
    """Add the gradient of the step's mean loss, one micro-batch of this rank's share at a time.

    A micro-batch weighs as much as the share of the step's tokens that its loss is about. How many
    that are in all is known only at the end where the model chooses among the data's counted ones.
    """
    group, parallel = session.group, session.learner.parallel
    sequences = session.plan.sequences_per_step
    offset, share = group.share(sequences)
    counts = tuple(micro_batch.parts(share))
    hooks.enter("data")
    data = session.feed.step(Place(session.progress.samples, sequences, counts, offset))
    expected = data.expected or 1.0
    # The first time, until it is known that this size fits: a rank that runs out of memory in the
    # middle of an exchange leaves the others waiting.
    late = micro_batch.untried and parallel.can_wait
    passes = list(zip(counts, data.batches, data.counted, strict=True))
    if parallel.lockstep:
        # A rank with a smaller share makes a pass more than it has data for, which counts nothing.
        most = len(micro_batch.parts(session.sequences_here))
        passes += passes[-1:] * (most - len(passes))
    parts: list[Part] = []
    laid = _laid_out(session) if len(passes) > 1 else {}
    for number, (count, batch, counted) in enumerate(passes, start=1):
        hooks.before_forward("train", count)
        reduce = number == len(passes) and not late
        idle = number > len(counts)
        with parallel.passing(reduce=reduce):
            hooks.enter("forward")
            with session.autocast:
                losses = losses_of(session.forward, batch)
            if reduce:
                check_together(group)
            hooks.enter("backward")
            # The gradients of all ranks are reduced to their mean, and these are parts of a sum.
            weight = 0.0 if idle else group.world.size / expected
            whole = count == sequences
            exchanging = reduce and not group.alone
            with out_of_memory_ends(group, micro_batch.size) if exchanging else nullcontext():
                (losses.total if whole else losses.total * (losses.counted * weight)).backward()
        if not idle:
            parts.append(Part(losses.total.detach(), losses.named, losses.counted, counted, count))
    if late:
        check_together(group)
        parallel.reduce(session.parameters)
    micro_batch.untried = False
    for parameter, version in laid.items():
        if parameter.grad is not None and parameter.grad._version == version:
            parameter.grad = None  # no pass has used the parameter
    if group.alone and len(parts) > 1:
        _scale_gradients(session, expected / _total(parts))
    return parts


def _laid_out(session: Session) -> dict[nn.Parameter, int]:
    """Give every parameter a gradient of zeros for several passes to add to, on a CPU.

    Made by the first backward pass, gradients would lie between its activations, and those of the
    next pass would not fit into what is left there: a sixth of the peak. Returns the versions of
    the gradients, which change when something is added.
    """
    if not session.group.alone or session.compute.device.type != "cpu":
        return {}
    for parameter in session.parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    return {p: p.grad._version for p in session.parameters.values() if p.grad is not None}


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
    gradients = [here(p.grad) for p in session.parameters.values() if p.grad is not None]
    torch._foreach_mul_(gradients, scale)


def update_unless_unwanted(
    optimizer: Optimizer,
    rate: float,
    parts: list[Part],
    norm: Tensor,
    skip_above: float,
    *,
    late: bool = False,
) -> Callable[[], Figures]:
    """Update the weights, or skip it. Returns what reads the step's figures."""
    if late or norm.is_cuda:
        skip = unwanted_on_device(parts, norm, skip_above)
        optimizer.step(rate, skip)
        return launched(parts, norm, skip)
    loss, size = mean_loss(parts), norm.item()
    skipped = unwanted(loss, size, skip_above)
    found = Figures(loss, size, skipped, mean_named(parts))
    optimizer.step(rate, skip=skipped)
    return lambda: found


def unwanted(loss: float, norm: float, skip_above: float) -> bool:
    """Whether the update must be skipped."""
    return not (math.isfinite(norm) and math.isfinite(loss) and loss <= skip_above)


def unwanted_on_device(parts: list[Part], norm: Tensor, skip_above: float) -> Tensor:
    """The same as a tensor on the device: 1.0 if the update must be skipped, else 0.0."""
    mean = sum((part.loss * part.tokens for part in parts), torch.zeros_like(norm)) / _total(parts)
    # NaN compares as False, so it counts as unwanted.
    return (~(norm.isfinite() & (mean <= skip_above) & mean.isfinite())).float()


def _total(parts: list[Part]) -> Tensor:
    """The tokens of all parts; 1 if there are none, so that a mean over them is 0."""
    total = torch.stack([part.tokens for part in parts]).sum()
    return total + (total == 0)


def advance(session: Session, passes: int) -> None:
    """Move the session's position past the step, for which so many passes were made."""
    progress, plan = session.progress, session.plan
    progress.step += 1
    progress.samples += plan.sequences_per_step
    progress.tokens_total += plan.tokens_per_step
    progress.total_forward += passes
    progress.total_backward += passes
