"""The log-probabilities of an iteration's answers: by the model before the first optimizer step,
and by the reference, which is the model that the run began from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from trainer.checkpoint.hub_models import recorded_model
from trainer.loop.micro_batch import MicroBatch
from trainer.loop.session import load_first_weights
from trainer.model.language_model import LanguageModel
from trainer.rl.batches import IGNORED, Row
from trainer.rl.objective import answer_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.loop.session import Session

Progress = Callable[[], None]


def old_scores(
    session: Session, rows: Sequence[Row], micro_batch: MicroBatch, progress: Progress
) -> list[NDArray[np.float32]]:
    """By the model as it is now, dropout off: an array of each answer's tokens."""
    model, parallel = session.model, session.learner.parallel
    was_training = model.training
    model.eval()
    try:
        return parallel.call(
            _scores, session, model, rows, micro_batch, progress, together=parallel.lockstep
        )
    finally:
        model.train(was_training)


def reference_scores(
    session: Session, rows: Sequence[Row], micro_batch: MicroBatch, progress: Progress
) -> list[NDArray[np.float32]]:
    """By the model that the run began from.

    It is read from its folder each time and given up again, so that optimizer steps have the memory
    to themselves.
    """
    model = _reference(session)
    return _scores(session, model, rows, micro_batch, progress)


def _reference(session: Session) -> LanguageModel:
    recorded = session.config.checkpoint.begin_from
    assert recorded is not None, "checked with the data"
    device = session.compute.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        model = LanguageModel(session.config.model, loss_memory=session.model.loss_memory)
        model.initialize(session.config.train.seed)  # adapters that change nothing yet, if any
    load_first_weights(model, recorded_model(recorded))
    return model.to(device).eval()


@torch.no_grad()
def _scores(
    session: Session,
    model: LanguageModel,
    rows: Sequence[Row],
    micro_batch: MicroBatch,
    progress: Progress,
    *,
    together: bool = False,
) -> list[NDArray[np.float32]]:
    """The ranks share the answers, unless all of them have to compute the same `together`."""
    compute, group = session.compute, session.group
    temperature, tokenizer = session.config.rl.temperature, session.sources.tokenizer
    assert tokenizer is not None
    first, count = (0, len(rows)) if together else group.share(len(rows))
    # Answers of like length go together, whatever their order.
    order = sorted(range(len(rows)), key=lambda place: (rows[place].length, place))
    mine = order[first : first + count]
    width = max(len(row.answer) for row in rows)
    scores = np.zeros((len(rows), width), dtype=np.float32)
    done = 0
    while done < len(mine):
        for attempt in micro_batch.attempts():
            with attempt:
                places = mine[done : done + micro_batch.size]
                inputs, targets = _batch([rows[place] for place in places])
                ids_BT = torch.from_numpy(inputs).to(compute.device)
                targets_BT = torch.from_numpy(targets).to(compute.device)
                with compute.autocast():
                    scored = answer_scores(
                        model, ids_BT, targets_BT, temperature, tokenizer.vocab_size
                    )
                found = scored[0].cpu().numpy()
        for place, line in zip(places, found, strict=True):
            said = _said(rows[place])
            scores[place, : said.stop - said.start] = line[said]
        done += len(places)
        progress()
    if not together:
        group.total(torch.from_numpy(scores))
    return [scores[place, : len(row.answer)] for place, row in enumerate(rows)]


def _said(row: Row) -> slice:
    """The positions that predict the answer."""
    start = len(row.prompt) - 1
    return slice(start, start + len(row.answer))


def _batch(rows: Sequence[Row]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    inputs = np.zeros((len(rows), max(row.length for row in rows)), dtype=np.int64)
    targets = np.full_like(inputs, IGNORED)
    for number, row in enumerate(rows):
        ids = np.array(row.prompt + row.answer, dtype=np.int64)
        inputs[number, : len(ids) - 1] = ids[:-1]
        targets[number, _said(row)] = ids[len(row.prompt) :]
    return inputs, targets
