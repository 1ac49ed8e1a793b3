"""From logits to the next token of every job. R rows, A rows with a grammar, V vocabulary."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from shared.errors import RunError
from trainer.generate.batched.choosing import (
    adjust,
    adjustments,
    discourage_repeats,
    draw,
    score,
)
from trainer.generate.batched.job import TokenScore
from trainer.generate.batched.running import Running

#: Draws a token for each row of the logits (R, V), biases and penalties included, for these jobs.
Draw = Callable[[Tensor, Sequence[Running]], list[int]]


def draw_by_uniforms(logits_RV: Tensor, choosing: Sequence[Running]) -> list[int]:
    """One uniform number of the job's own randomness for each token, all rows at once."""
    return draw(
        logits_RV,
        [running.job.sampling for running in choosing],
        [running.randomness.random() for running in choosing],
    )


def next_tokens(
    logits_RV: Tensor, choosing: Sequence[Running], draw: Draw, known_ids: int
) -> list[TokenScore | RunError | None]:
    """The next token of every job, out of the first `known_ids`.

    None where the logits are not finite, an error where a job's grammar cannot be followed.
    """
    sound = [math.isfinite(largest) for largest in logits_RV.amax(dim=-1).tolist()]
    if not all(sound):  # the draw of a bad row is discarded, but it has to be valid
        sound_R1 = torch.tensor(sound, device=logits_RV.device)[:, None]
        logits_RV = logits_RV.masked_fill(~sound_R1, 0.0)
    chosen_from = adjust(
        discourage_repeats(
            logits_RV[:, :known_ids],
            [running.seen for running in choosing],
            [running.job.repetition_penalty for running in choosing],
        ),
        [adjustments(running.job, running.counts) for running in choosing],
    )
    chosen_from, lost = _masked(chosen_from, choosing)
    tokens = draw(chosen_from, choosing)
    scores = _scores(choosing, logits_RV, tokens, known_ids)
    return [
        lost.get(row, token_score if finite else None)
        for row, (token_score, finite) in enumerate(zip(scores, sound, strict=True))
    ]


def _scores(
    choosing: Sequence[Running], logits_RV: Tensor, tokens: Sequence[int], known_ids: int
) -> list[TokenScore]:
    scores = [TokenScore(token) for token in tokens]
    tops = {
        row: running.job.top_logprobs
        for row, running in enumerate(choosing)
        if running.job.top_logprobs is not None
    }
    if tops:
        wanted = [tokens[row] for row in tops]
        found = score(logits_RV[list(tops)], wanted, list(tops.values()), known_ids)
        for row, row_score in zip(tops, found, strict=True):
            scores[row] = row_score
    return scores


def _masked(logits_RV: Tensor, choosing: Sequence[Running]) -> tuple[Tensor, dict[int, RunError]]:
    """The logits with -inf for tokens that a job's grammar does not allow.

    Also the rows whose grammar cannot be followed any further, and why.
    """
    allowed, lost = {}, {}
    for row, running in enumerate(choosing):
        if running.matcher:
            try:
                allowed[row] = running.matcher.allowed()
            except RunError as error:
                lost[row] = error
    if allowed:
        rows = torch.tensor(list(allowed), device=logits_RV.device)
        mask_AV = torch.from_numpy(np.stack(list(allowed.values()))).to(logits_RV.device)
        kept_AV = logits_RV[rows].masked_fill(~mask_AV, -torch.inf)
        logits_RV = logits_RV.index_copy(0, rows, kept_AV)
    return logits_RV, lost
