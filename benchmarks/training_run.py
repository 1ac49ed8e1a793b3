"""A real training run in a folder, opened as `trainer train` opens it, for benchmarks to watch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from shared.run_writer import RunWriter
    from trainer.loop.feed import Place, StepData
    from trainer.loop.session import Session

#: No evaluation, sample or checkpoint disturbs a run that is timed.
QUIET = {"eval.interval": 10**9, "eval.sample_interval": 0, "checkpoint.interval": 10**9}


def call_every_step(session: Session, on_step: Callable[[], None]) -> None:
    """Call `on_step` whenever a step asks for its data: the pulse of the loop."""
    give = session.feed.step

    def watched(place: Place) -> StepData:
        on_step()
        return give(place)

    setattr(session.feed, "step", watched)  # noqa: B010


def write_tokens(path: Path, vocab_size: int, count: int = 1_000_000) -> Path:
    """Uniformly random tokens: how fast they are learnt does not matter here."""
    tokens = np.random.default_rng(0).integers(0, vocab_size, count, dtype=np.uint32)
    tokens.astype("<u4").tofile(path)
    return path


def open_run(
    settings: Mapping[str, Any], folder: Path, on_step: Callable[[], None] | None = None
) -> tuple[Session, RunWriter]:
    """A built session and its writer; `Training(session, writer).run()` trains.

    `on_step` is called as each step asks for its data.
    """
    from shared.run_writer import RunWriter
    from trainer.config.resolve import resolve
    from trainer.loop.plan import plan
    from trainer.loop.session import build

    config = resolve(QUIET, dict(settings))
    planned = plan(config)
    session = build(planned)
    if on_step:
        call_every_step(session, on_step)
    return session, RunWriter(folder, name=config.name, max_steps=planned.max_steps)
