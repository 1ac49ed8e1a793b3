"""The output head's products with a vocabulary rounded up to a multiple of 64, beside the plain.

Loss and gradients of one batch of hidden states, on one thread, in turns; the processor time of the
fastest of each. On a GPU rows that begin at odd places make products of bf16 slower; this measures
whether a CPU minds (`train.vocab_multiple`).

    python -m benchmarks padded_vocabulary [--quick]
"""

from __future__ import annotations

import time
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from benchmarks.record import Result, Row
from trainer.model.loss import LossMemory, language_loss

VOCABULARIES = (65, 1023, 4099, 50257)
WIDTH, TOKENS, MULTIPLE = 256, 256, 64
ROUNDS = 5


def measure(*, quick: bool) -> Result:
    """Both precisions, every vocabulary; `quick`: the smallest two, one round."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [
            row
            for vocabulary in VOCABULARIES[: 2 if quick else None]
            for bf16 in (False, True)
            for row in _rows(vocabulary, bf16=bf16, rounds=1 if quick else ROUNDS)
        ]
    finally:
        torch.set_num_threads(before)
    return Result(rows, [], [])


def _rows(vocabulary: int, *, bf16: bool, rounds: int) -> list[Row]:
    torch.manual_seed(0)
    head = nn.Linear(WIDTH, vocabulary, bias=False)
    hidden = torch.randn(1, TOKENS, WIDTH, requires_grad=True)
    targets = torch.randint(vocabulary, (1, TOKENS))
    # In pieces alike, which is what a large batch is computed in.
    ways = [LossMemory(logits=0, chunk=TOKENS, multiple=multiple) for multiple in (0, MULTIPLE)]
    best = [float("inf")] * len(ways)
    for _ in range(rounds + 1):  # the first round warms up
        for number, memory in enumerate(ways):
            took = _seconds(head, hidden, targets, memory, bf16=bf16)
            best[number] = min(best[number], took)
    what = f"vocabulary {vocabulary:,}, {'bf16' if bf16 else 'fp32'}"
    plain, padded = (1000 * seconds for seconds in best)
    return [
        Row(f"{what}: plain", plain, "ms"),
        Row(f"{what}: a multiple of {MULTIPLE}", padded, "ms", "plain", padded / plain),
    ]


def _seconds(
    head: nn.Linear, hidden_BTD: Tensor, targets_BT: Tensor, memory: LossMemory, *, bf16: bool
) -> float:
    """Of the processor, for loss and gradients."""
    head.zero_grad()
    hidden_BTD.grad = None
    started = time.process_time()
    with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else nullcontext():
        losses = language_loss(
            head, hidden_BTD, targets_BT, vocabulary=head.out_features, memory=memory
        )
    losses.total.backward()
    return time.process_time() - started
