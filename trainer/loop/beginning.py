"""The first lines of an attempt, and the check of the untrained loss."""

from __future__ import annotations

import math
import time

from shared.run_writer import RunWriter
from trainer.loop.evaluation import evaluate
from trainer.loop.position import show_position
from trainer.loop.session import Session
from trainer.optim.schedule import learning_rate

FIRST_LOSS_TOLERANCE = 0.25  # share of ln V


def announce(session: Session, writer: RunWriter) -> None:
    """Tell what is trained, from where, and how many steps are left."""
    progress = session.progress
    for line in (
        f"Run {writer.run.run_id} in {writer.run.path}",
        *session.notes,
        f"{session.max_steps - progress.step} of {session.max_steps} steps to go",
    ):
        writer.say(f"[INFO] {line}")
    show_position(session, writer)
    if session.resumed_from:
        writer.event("resumed", step=progress.step, checkpoint=session.resumed_from.name)
    elif session.begun_from:
        writer.event("begun_from", checkpoint=str(session.begun_from))


def check_first_loss(session: Session, writer: RunWriter) -> None:
    """Log the loss before any training; random weights that are sound have one near ln V."""
    started = time.perf_counter()
    batch = session.sources.train.batch(0, session.config.train.batch_size)
    result = evaluate(session.model, [batch], session.compute, progress=writer.progress)
    milliseconds = (time.perf_counter() - started) * 1000
    rate = learning_rate(session.config.optim, 0, session.max_steps)
    writer.say(
        f"[INFO] step 0 | loss: {result.loss:.3f} | lr: {rate:.6f} | time: {milliseconds:.0f}ms"
    )
    if session.begun_from is not None:
        return
    expected = math.log(session.model.dimensions.V)
    if abs(result.loss - expected) > FIRST_LOSS_TOLERANCE * expected:
        message = f"the first loss is {result.loss:.3f}, not near ln V = {expected:.3f}"
        writer.event("warning", message=message)
        writer.say(f"[WARN] {message}")
