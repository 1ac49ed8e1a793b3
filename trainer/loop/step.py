"""One optimizer step: forward and backward over what fits into memory, clipping, the update."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.data.batches import to_tensors
from trainer.loop.hooks import NO_HOOKS, Hooks
from trainer.loop.micro_batch import MicroBatch
from trainer.loop.session import Session
from trainer.optim.schedule import learning_rate


class Part(NamedTuple):
    """One micro-batch: its mean loss in nats per token, on the device, and its size."""

    loss: Tensor
    sequences: int


@dataclass(frozen=True)
class StepResult:
    """One step: mean loss in nats per token, gradient norm before clipping, seconds.

    `updated`: the optimizer changed the weights. Where it did not, `layer` is the parameter whose
    gradient was the largest, or not finite and nearest to the output.
    """

    loss: float
    gradient_norm: float
    learning_rate: float
    seconds: float
    updated: bool = True
    layer: str = ""

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


class OptimizerStep:
    """Makes the steps of a session, with `micro_batch` sequences at a time."""

    def __init__(self, session: Session, micro_batch: MicroBatch, hooks: Hooks = NO_HOOKS) -> None:
        self._session = session
        self._hooks = hooks
        self._micro_batch = micro_batch
        named = [(n, p) for n, p in session.model.named_parameters() if p.requires_grad]
        self._names = [name for name, _ in named]
        self._parameters = [parameter for _, parameter in named]
        self._model = session.model
        if session.compute.compile:
            self._model = torch.compile(session.model)  # type: ignore[assignment]

    def __call__(self, skip_above: float = math.inf) -> StepResult:
        """Train on the next sequences; leave the update out when the loss is above `skip_above`
        or something is not finite.
        """
        session = self._session
        config, progress = session.config, session.progress
        started = time.perf_counter()
        step = progress.step + 1
        rate = learning_rate(config.optim, step, session.max_steps)
        losses, norms, norm = self._gradient()
        total = sum(count for _, count in losses)
        if norm.device.type == "cuda":
            skipped = self._unwanted(losses, total, norm, skip_above)
            session.optimizer.step(rate, skipped)
            mean = sum(loss.item() * count for loss, count in losses) / total
            updated = not skipped.item()
        else:
            mean = sum(loss.item() * count for loss, count in losses) / total
            finite = math.isfinite(norm.item()) and math.isfinite(mean)
            updated = finite and mean <= skip_above
            if updated:
                session.optimizer.step(rate)
        layer = "" if updated else self._worst(norms)
        session.optimizer.zero_grad()
        progress.step = step
        progress.samples += total
        progress.tokens_total += config.tokens_per_step
        progress.total_forward += len(losses)
        progress.total_backward += len(losses)
        progress.loss = mean if math.isfinite(mean) else None
        seconds = time.perf_counter() - started
        progress.seconds += seconds
        return StepResult(mean, norm.item(), rate, seconds, updated, layer)

    def _gradient(self) -> tuple[list[Part], Tensor, Tensor]:
        """The clipped gradient of the mean loss.

        Returns the loss and the number of sequences of each part, and the norms from before.
        """
        session = self._session
        generators = _GeneratorStates(session) if session.config.model.dropout else None

        def undo() -> None:
            session.optimizer.zero_grad()
            if generators:
                generators.restore()

        def attempt() -> tuple[list[Part], Tensor, Tensor]:
            losses = self._forward_backward()
            self._hooks.after_backward(session, losses)
            return losses, *self._clip(session.config.optim.grad_clip)

        return self._micro_batch.fitting(attempt, undo)

    def _forward_backward(self) -> list[Part]:
        session = self._session
        train, compute = session.config.train, session.compute
        total = train.batch_size * train.accumulation_steps
        first = session.progress.samples
        losses: list[Part] = []
        for count in self._micro_batch.parts(total):
            self._hooks.before_forward("train", count)
            inputs, targets = to_tensors(session.sources.train.batch(first, count), compute.device)
            with compute.autocast():
                loss = self._model(inputs, targets).total
            (loss if count == total else loss / (total / count)).backward()
            losses.append(Part(loss.detach(), count))
            first += count
        return losses

    def _clip(self, limit: float) -> tuple[Tensor, Tensor]:
        """Scale the gradients down to a global norm of `limit` (0: leave them).

        Returns the norm of every parameter's gradient and that of all, from before.
        """
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))
        norm = torch.linalg.vector_norm(norms)
        if limit:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, limit, norm, foreach=True)
        return norms, norm

    @staticmethod
    def _unwanted(losses: list[Part], total: int, norm: Tensor, skip_above: float) -> Tensor:
        """1.0 on the device where the update must be left out: the host need not wait for it."""
        mean = sum(loss * (count / total) for loss, count in losses)
        # Written so that a NaN counts as unwanted.
        return (~(norm.isfinite() & (mean <= skip_above) & mean.isfinite())).float()  # type: ignore[union-attr]

    def _worst(self, norms: Tensor) -> str:
        """Which parameter's gradient to suspect, while the gradients are still there."""
        named = zip(self._names, self._parameters, strict=True)
        names = [name for name, parameter in named if parameter.grad is not None]
        by_name = dict(zip(names, norms.tolist(), strict=True))
        broken = [name for name, value in by_name.items() if not math.isfinite(value)]
        # Backpropagation carries it from there to everything before: the last is the source.
        return broken[-1] if broken else max(by_name, key=by_name.__getitem__)


class _GeneratorStates:
    """The generators that dropout draws from, to draw the same again."""

    def __init__(self, session: Session) -> None:
        self._cpu = torch.get_rng_state()
        self._device = session.compute.device
        cuda = self._device.type == "cuda"
        self._cuda = torch.cuda.get_rng_state(self._device) if cuda else None

    def restore(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)
