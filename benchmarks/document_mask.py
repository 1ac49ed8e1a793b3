"""What it costs to keep the documents of a sequence apart (`train.document_mask`).

Forward and backward passes on one thread, with and without, in turns in one process, each first in
every other round. The ratio is the median of the rounds' ratios of processor time, with the bounds
between which it lies at 95 %. Documents are as long as named on average, with lengths that vary by
half. Hold: at most 5 % where they are long.

    python -m benchmarks document_mask [--quick]
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.ratios import ratio
from benchmarks.record import Hold, Result, Row, run_alone

LENGTH, SEQUENCES, ROUNDS = 512, 4, 15
SHAPE: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 384,
    "num_layers": 6,
    "num_heads": 6,
    "max_seq_len": LENGTH,
}
#: Mean lengths of documents, of which those from `LONG` on are long.
MEANS = (32, 128, 256, 512, 2048)
LONG = 256
HOLD = 0.05


def _positions(mean: int) -> Any:
    """Positions within documents of that mean length, (B, T), as windows of a token file have."""
    import numpy as np

    draw = np.random.default_rng(mean)
    lengths = draw.integers(mean // 2, mean * 3 // 2, size=SEQUENCES * LENGTH)
    places = np.concatenate([np.arange(n) for n in lengths[: 4 + SEQUENCES * LENGTH // mean * 2]])
    rows = places[draw.integers(mean // 2) :][: SEQUENCES * LENGTH].reshape(SEQUENCES, LENGTH)
    begins = np.where(rows == 0, np.arange(LENGTH), 0)  # a window begins a document too
    return np.arange(LENGTH) - np.maximum.accumulate(begins, axis=1)


def _rounds(mean: int, *, bf16: bool, rounds: int) -> list[tuple[float, float]]:
    """Seconds of a pass with documents kept apart and without, round by round."""
    import torch

    from trainer.config.model import ModelConfig
    from trainer.model.language_model import LanguageModel

    torch.set_num_threads(1)
    model = LanguageModel(ModelConfig(**SHAPE))
    model.initialize(0)
    ids = torch.randint(4096, (SEQUENCES, LENGTH + 1))
    positions = torch.from_numpy(_positions(mean))

    def seconds(given: dict[str, Any]) -> float:
        started = time.process_time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            losses = model(ids[:, :-1], ids[:, 1:], **given)
        losses.total.backward()
        model.zero_grad()
        return time.process_time() - started

    apart: dict[str, Any] = {"positions_BT": positions}
    found = []
    for number in range(rounds + 1):
        if number % 2:
            found.append((seconds(apart), seconds({})))
        else:
            without = seconds({})
            found.append((seconds(apart), without))
    return found[1:]  # the first one warms up


def measure(*, quick: bool) -> Result:
    """Every mean length in fp32 and bf16."""
    rows, worst, bounds = [], -1.0, []
    for bf16 in (False, True):
        for mean in MEANS:
            rounds = _rounds(mean, bf16=bf16, rounds=2 if quick else ROUNDS)
            found, seconds = ratio(rounds), statistics.median(apart for apart, _ in rounds)
            what = f"{'bf16' if bf16 else 'fp32'}, documents of {mean:,} tokens"
            rows.append(Row(what, 1000 * seconds, "ms", "without", found.middle))
            bounds.append(f"{what}: {found.as_change}")
            if mean >= LONG:
                worst = max(worst, found.middle - 1)
    number = f"documents of {LONG} tokens and more cost ≤ {HOLD:.0%} of a pass"
    notes = [
        f"Sequences of {LENGTH} tokens, {SEQUENCES} at once, 10.6M parameters in 6 layers.",
        f"A pass changes by, at 95 %: {'; '.join(bounds)}.",
    ]
    return Result(rows, [Hold(number, f"{worst:+.1%}", worst <= HOLD)], notes)


if __name__ == "__main__":
    raise SystemExit(run_alone(__doc__, measure))
