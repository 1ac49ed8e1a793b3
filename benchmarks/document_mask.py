"""What it costs to keep the documents of a sequence apart (`train.document_mask`).

Forward and backward passes on one thread, with and without, in turns in one process; the processor
time of the fastest pass of each. Documents are as long as named on average, with lengths that vary
by half. Hold: at most 5 % where they are long.

    python -m benchmarks document_mask [--quick]
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.record import Hold, Result, Row, run_alone

LENGTH, SEQUENCES, ROUNDS = 512, 4, 7
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


def _compared(mean: int, *, bf16: bool, rounds: int) -> tuple[float, float]:
    """Seconds of a pass without and with documents kept apart."""
    import torch

    from trainer.config.model import ModelConfig
    from trainer.model.language_model import LanguageModel

    torch.set_num_threads(1)
    model = LanguageModel(ModelConfig(**SHAPE))
    model.initialize(0)
    ids = torch.randint(4096, (SEQUENCES, LENGTH + 1))
    positions = torch.from_numpy(_positions(mean))
    best = [float("inf")] * 2
    for _ in range(rounds):
        for way, given in enumerate(({}, {"positions_BT": positions})):
            started = time.process_time()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                losses = model(ids[:, :-1], ids[:, 1:], **given)
            losses.total.backward()
            model.zero_grad()
            best[way] = min(best[way], time.process_time() - started)
    return best[0], best[1]


def measure(*, quick: bool) -> Result:
    """Every mean length in fp32 and bf16."""
    rows, worst = [], 0.0
    for bf16 in (False, True):
        for mean in MEANS:
            without, apart = _compared(mean, bf16=bf16, rounds=2 if quick else ROUNDS)
            kind = "bf16" if bf16 else "fp32"
            what = f"{kind}, documents of {mean:,} tokens"
            rows.append(Row(what, 1000 * apart, "ms", "without", apart / without))
            if mean >= LONG:
                worst = max(worst, apart / without - 1)
    number = f"documents of {LONG} tokens and more cost ≤ {HOLD:.0%} of a pass"
    note = f"Sequences of {LENGTH} tokens, {SEQUENCES} at once, 10.6M parameters in 6 layers."
    return Result(rows, [Hold(number, f"{worst:+.1%}", worst <= HOLD)], [note])


if __name__ == "__main__":
    raise SystemExit(run_alone(__doc__, measure))
