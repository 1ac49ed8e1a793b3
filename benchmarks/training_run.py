"""A real training run in a folder, opened as `trainer train` opens it, for benchmarks to watch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from shared.run_writer import RunWriter
    from trainer.data.batches import Batch, SampleSource
    from trainer.loop.session import Session

#: No evaluation, sample or checkpoint disturbs a run that is timed.
QUIET = {"eval.interval": 10**9, "eval.sample_interval": 0, "checkpoint.interval": 10**9}


class WatchedSource:
    """A training source that calls `on_batch` before every batch: the pulse of the loop."""

    def __init__(self, source: SampleSource, on_batch: Callable[[], None]) -> None:
        self._source, self._on_batch = source, on_batch
        self.seq_len, self.vocab_size = source.seq_len, source.vocab_size

    @property
    def num_windows(self) -> int:
        """Samples in an epoch."""
        return self._source.num_windows

    def batch(self, first_sample: int, count: int) -> Batch:
        """The batch of the source behind."""
        self._on_batch()
        return self._source.batch(first_sample, count)

    def counted(self, first_sample: int, count: int) -> float:
        """As the source behind counts."""
        return self._source.counted(first_sample, count)


def write_tokens(path: Path, vocab_size: int, count: int = 1_000_000) -> Path:
    """Uniformly random tokens: how fast they are learnt does not matter here."""
    tokens = np.random.default_rng(0).integers(0, vocab_size, count, dtype=np.uint32)
    tokens.astype("<u4").tofile(path)
    return path


def open_run(
    settings: Mapping[str, Any], folder: Path, on_batch: Callable[[], None] | None = None
) -> tuple[Session, RunWriter]:
    """A built session and its writer; `Training(session, writer).run()` trains.

    `on_batch` is called as each step (micro-batch) asks for its data, and once before the first,
    when the untrained loss is taken.
    """
    from shared.run_writer import RunWriter
    from trainer.config.resolve import resolve
    from trainer.loop.session import build, plan

    config = resolve(QUIET, dict(settings))
    planned = plan(config)
    if on_batch:
        sources = replace(planned.sources, train=WatchedSource(planned.sources.train, on_batch))
        planned = replace(planned, sources=sources)
    writer = RunWriter(folder, name=config.name, max_steps=planned.max_steps)
    return build(planned), writer
