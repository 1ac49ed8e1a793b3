"""The passes of a step where several ranks make it together."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext

import torch
from torch import Tensor

from trainer.loop.feed import Place
from trainer.loop.figures import Part, total_tokens
from trainer.loop.hooks import Hooks
from trainer.loop.micro_batch import MicroBatch, losses_of
from trainer.loop.out_of_memory import check_together, out_of_memory_ends
from trainer.loop.session import Session
from trainer.optim.clipping import scale_gradients


def forward_backward_together(
    session: Session, micro_batch: MicroBatch, hooks: Hooks
) -> list[Part]:
    """Add the gradient of the mean loss of all ranks' data, one micro-batch of this rank's share at
    a time. The weights are those of `forward_backward`; `of_all_ranks` corrects them.
    """
    group, parallel = session.group, session.learner.parallel
    sequences = session.plan.sequences_per_step
    offset, share = group.share(sequences)
    counts = micro_batch.parts(share)
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
            total = losses.total if whole else losses.total * (losses.counted * weight)
            with out_of_memory_ends(group, micro_batch.size) if reduce else nullcontext():
                total.backward()
        if not idle:
            parts.append(Part(losses.total.detach(), losses.named, losses.counted, counted, count))
    if late:
        check_together(group)
        parallel.reduce(session.parameters)
    micro_batch.untried = False
    return parts


def of_all_ranks(session: Session, parts: list[Part]) -> list[Part]:
    """One part that stands for those of all ranks.

    The gradients are scaled to be about as many tokens as there were.
    """
    group, config = session.group, session.config
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
    scale_gradients(session.parameters, ((counted or 1.0) / total_tokens([whole])).float())
    return [whole]


def _sum(values: Iterable[Tensor]) -> Tensor:
    return torch.stack([value.double() for value in values]).sum()
