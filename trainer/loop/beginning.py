"""The first lines of an attempt, and the check of the untrained loss."""

from __future__ import annotations

import math

from shared.run_writer import RunWriter
from shared.text import plural
from trainer.checkpoint.hub_models import shown_model
from trainer.data.pairs import HeldPairs, PairBatches
from trainer.loop.evaluation import evaluate
from trainer.loop.hooks import nothing
from trainer.loop.micro_batch import MicroBatch
from trainer.loop.pair_evaluation import evaluate_pairs
from trainer.loop.position import show_position
from trainer.loop.session import Session

FIRST_LOSS_TOLERANCE = 0.25  # share of ln V


def announce(session: Session, writer: RunWriter) -> None:
    """Tell what is trained, from where, and how many steps are left."""
    progress = session.progress
    for line in (
        f"Run {writer.run.run_id} in {writer.run.path}",
        *session.notes,
        f"{session.max_steps - progress.step} of {plural(session.max_steps, 'step')} to go",
    ):
        writer.say(f"[INFO] {line}")
    show_position(session, writer)
    if session.resumed_from:
        writer.event("resumed", step=progress.step, checkpoint=session.resumed_from.name)
    elif session.begun_from:
        writer.event("begun_from", checkpoint=shown_model(session.begun_from))


def check_first_loss(session: Session, writer: RunWriter) -> None:
    """Log the loss before any training; random weights that are sound have one near ln V."""
    source, size = session.sources.train, session.config.train.batch_size
    if isinstance(source, PairBatches):
        first = HeldPairs(source, source.chosen(0, size))
        told = evaluate_pairs(session, first, MicroBatch(size), writer.progress, nothing)
        writer.say(f"[INFO] Loss before training: {told.loss:.3f}")
        return
    batch = source.batch(0, size)
    call = session.learner.parallel.call
    result = call(evaluate, session.model, [batch], session.compute, progress=writer.progress)
    if session.begun_from is not None:
        writer.say(f"[INFO] Loss before training: {result.loss:.3f}")
        return
    expected = math.log(session.model.dimensions.V)
    writer.say(
        f"[INFO] Loss before training: {result.loss:.3f} (ln of the vocabulary: {expected:.3f})"
    )
    if abs(result.loss - expected) > FIRST_LOSS_TOLERANCE * expected:
        message = f"the first loss is {result.loss:.3f}, not near ln V = {expected:.3f}"
        writer.event("warning", message=message)
        writer.say(f"[WARN] {message}")
