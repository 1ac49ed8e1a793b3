"""One optimizer step: batch, forward and backward over micro-batches, clipping, the update."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.checkpoint.progress import Position
from trainer.loop.feed import Place
from trainer.loop.figures import (
    Figures,
    Part,
    launched,
    mean_loss,
    mean_named,
    total_tokens,
)
from trainer.loop.hooks import NO_HOOKS, Hooks
from trainer.loop.micro_batch import MicroBatch, Undo, losses_of
from trainer.loop.out_of_memory import OutOfMemoryTogether
from trainer.loop.session import Session
from trainer.loop.together import forward_backward_together, of_all_ranks
from trainer.optim.clipping import GradientNorms, clip_gradients, scale_gradients, suspect
from trainer.optim.optimizer import Optimizer
from trainer.optim.schedule import learning_rate


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

    It led from the position `before` to the one `after`.
    """

    def __init__(
        self,
        session: Session,
        started: float,
        rate: float,
        norms: GradientNorms,
        read: Callable[[], Figures],
        *,
        before: Position,
        after: Position,
    ) -> None:
        self._session, self._started, self._rate = session, started, rate
        self._norms, self._read = norms, read
        self.before, self.after = before, after

    def result(self, not_before: float = -math.inf) -> StepResult:
        """What the step measured. Waits for the device, but not for what was launched later.

        The step's time counts from its launch, or from `not_before` (`time.perf_counter`), until
        when the device was busy with the step before.
        """
        figures = self._read()
        seconds = time.perf_counter() - max(self._started, not_before)
        progress, group = self._session.progress, self._session.plan.group
        if not group.alone:
            (seconds,) = group.agree(seconds)
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
    plan, optimizer = session.plan, session.learner.optimizer
    before = session.progress.position
    rate = learning_rate(plan.config.optim, before.step + 1, plan.max_steps)
    parts, passes, norms = micro_batch.attempted(
        partial(gradients, session, micro_batch, hooks), Undo(session)
    )
    read = update_unless_unwanted(optimizer, rate, parts, norms.total, skip_above, late=late)
    optimizer.zero_grad()
    after = session.progress.position = Position(
        before.step + 1,
        before.samples + plan.sequences_per_step,
        before.tokens_total + plan.tokens_per_step,
        before.total_forward + passes,
        before.total_backward + passes,
    )
    optimizer.averages.update(after.step, plan.max_steps)
    hooks.enter("other")
    return LaunchedStep(session, started, rate, norms, read, before=before, after=after)


def gradients(
    session: Session, micro_batch: MicroBatch, hooks: Hooks
) -> tuple[list[Part], int, GradientNorms]:
    """Make the gradient of the step's mean loss, and clip it.

    Returns what its passes measured, how many this rank made, and the norms before clipping.
    """
    group = session.plan.group
    if group.alone:
        parts = forward_backward(session, micro_batch, hooks)
        return parts, len(parts), _clipped(session, parts, hooks)
    can_wait = session.learner.parallel.can_wait
    with OutOfMemoryTogether(group, micro_batch.size, can_wait=can_wait):
        own = forward_backward_together(session, micro_batch, hooks)
        parts = of_all_ranks(session, own)
        return parts, len(own), _clipped(session, parts, hooks)


def _clipped(session: Session, parts: list[Part], hooks: Hooks) -> GradientNorms:
    hooks.after_backward(session, parts)
    hooks.enter("optimizer")
    learner, limit = session.learner, session.plan.config.optim.grad_clip
    return clip_gradients(learner.parameters, limit, learner.parallel.sharing)


def forward_backward(session: Session, micro_batch: MicroBatch, hooks: Hooks) -> list[Part]:
    """Add the gradient of the step's mean loss, one micro-batch at a time, where one process has
    all the data.

    A micro-batch weighs as much as the share of the step's tokens that its loss is about. How many
    that are in all is known only at the end where the model chooses among the data's counted ones.
    """
    forward, sequences = session.learner.forward, session.plan.sequences_per_step
    counts = micro_batch.parts(sequences)
    hooks.enter("data")
    data = session.feed.step(Place(session.progress.samples, sequences, counts))
    expected = data.expected or 1.0
    parts: list[Part] = []
    laid = _laid_out(session) if len(counts) > 1 else {}
    for count, batch, counted in zip(counts, data.batches, data.counted, strict=True):
        hooks.before_forward("train", count)
        hooks.enter("forward")
        with session.autocast:
            losses = losses_of(forward, batch)
        hooks.enter("backward")
        whole = count == sequences
        (losses.total if whole else losses.total * (losses.counted * (1 / expected))).backward()
        parts.append(Part(losses.total.detach(), losses.named, losses.counted, counted, count))
    micro_batch.untried = False
    for parameter, version in laid.items():
        if parameter.grad is not None and parameter.grad._version == version:
            parameter.grad = None  # no pass has used the parameter
    if len(parts) > 1:
        scale_gradients(session.parameters, expected / total_tokens(parts))
    return parts


def _laid_out(session: Session) -> dict[nn.Parameter, int]:
    """Give every parameter a gradient of zeros for several passes to add to, on a CPU.

    Made by the first backward pass, gradients would lie between its activations, and those of the
    next pass would not fit into what is left there: a sixth of the peak. Returns the versions of
    the gradients, which change when something is added.
    """
    if session.compute.device.type != "cpu":
        return {}
    for parameter in session.parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    return {p: p.grad._version for p in session.parameters.values() if p.grad is not None}


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
    mean = sum((part.loss * part.tokens for part in parts), torch.zeros_like(norm)) / total_tokens(
        parts
    )
    # NaN compares as False, so it counts as unwanted.
    return (~(norm.isfinite() & (mean <= skip_above) & mean.isfinite())).float()
