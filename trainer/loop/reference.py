"""The log-probabilities of pairs of answers by the reference: computed once, kept beside them."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.files import replace_file
from shared.text import one_line, plural
from trainer.checkpoint.hub_models import recorded_model
from trainer.checkpoint.loading import verify
from trainer.data.batches import to_tensors
from trainer.data.pairs import PairBatches, reference_path
from trainer.loop.micro_batch import MicroBatch
from trainer.loop.plan import Plan
from trainer.loop.session import load_first_weights
from trainer.model.language_model import LanguageModel
from trainer.model.preference import answer_log_probs

_SAY = 30.0  # seconds between lines of progress


def compute_reference(
    planned: Plan, say: Callable[[str], None], progress: Callable[[], None]
) -> None:
    """Give the pairs of `planned` the reference's log-probabilities: those on disk if they are of
    this model and these pairs, or computed now.

    The reference is the model that the run began from. Raises UserError when it is gone.
    """
    source = planned.sources.train
    assert isinstance(source, PairBatches)
    recorded = planned.config.checkpoint.begin_from
    assert recorded is not None
    facts: dict[str, Any] = {
        "model": planned.sources.identity["reference"],
        "shape": planned.config.model.model_dump(mode="json"),
        "pairs": source.pairs.digest,
        "seq_len": source.seq_len,
        "bf16": planned.compute.bf16,
    }
    path = reference_path(source.pairs.folder, facts)
    logps = _read(path, source.pairs.count)
    if logps is None:
        say(f"[INFO] Reference of {plural(len(source.fitting), 'pair')}: {one_line(path)}")
        logps = _computed(planned, source, recorded_model(recorded), say, progress)
        data = io.BytesIO()
        np.save(data, logps, allow_pickle=False)
        replace_file(path, data.getvalue())
    source.use_reference(logps)


def _read(path: Path, pairs: int) -> np.ndarray | None:
    """What is kept, unless it is missing or damaged."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = found.shape == (pairs, 2) and found.dtype == np.float32
    return found if fits else None


@torch.no_grad()
def _computed(
    planned: Plan,
    source: PairBatches,
    folder: Path,
    say: Callable[[str], None],
    progress: Callable[[], None],
) -> np.ndarray:
    """The log-probabilities (pairs, 2); NaN for pairs that are left out."""
    compute = planned.compute
    model = LanguageModel(planned.config.model)  # with adapters that change nothing yet, if any
    model.initialize(planned.config.train.seed)
    verify(folder)
    load_first_weights(model, folder)
    model.to(compute.device).eval()
    logps = np.full((source.pairs.count, 2), np.nan, dtype=np.float32)
    micro_batch = MicroBatch(planned.config.train.batch_size)
    last, done = time.monotonic(), 0
    while done < len(source.fitting):
        for attempt in micro_batch.attempts():
            with attempt:
                pairs = source.fitting[done : done + micro_batch.size]
                inputs, targets = to_tensors(source.rows(pairs), compute.device)
                with compute.autocast():
                    found = answer_log_probs(model, inputs, targets)
        logps[pairs] = found.float().cpu().numpy().reshape(-1, 2)
        done += len(pairs)
        progress()
        if time.monotonic() - last > _SAY:
            last = time.monotonic()
            say(f"[INFO] Reference: {done:,} of {plural(len(source.fitting), 'pair')}")
    return logps
