"""The same training in other ways: eager, with recomputed blocks, with the head in pieces."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.sizes import SIZES, Size, measured, sizes_of
from benchmarks.gpu_check.speed import Speed

SECTION = "Ways to train, bf16, eager"
SECONDS = 20  # for one way


def ways(check: Check) -> None:
    """Eager; with gradient checkpointing; and the 124M model's head whole and in pieces."""
    for size in sizes_of(check):
        plain = _way(check, size, "everything kept", train__grad_checkpoint_every=0)
        if size.name == "350M":
            continue
        for every in (1, 4):
            _compare(
                check,
                size,
                plain,
                f"gradient checkpointing every {every}",
                train__grad_checkpoint_every=every,
            )
    _heads(check, SIZES[0])


def _way(check: Check, size: Size, what: str, **changes: Any) -> Speed | None:
    if check.left < SECONDS:
        return None
    settings = size.settings(check, **changes)
    return measured(check, SECTION, f"{size.describe()}, {what}", settings)


def _compare(check: Check, size: Size, plain: Speed | None, what: str, **changes: Any) -> None:
    """A way, and what it costs and saves beside the plain one."""
    speed = _way(check, size, what, **changes)
    if not (plain and speed):
        return
    memory = f", {speed.peak_bytes / plain.peak_bytes:.2f}x the memory" if plain.peak_bytes else ""
    check.report.add(
        SECTION,
        f"{size.name}, {what}: beside everything kept",
        f"{plain.tokens_per_second / speed.tokens_per_second:.2f}x the time{memory}",
        "the guide: 1.33x and 0.25x of the activations",
    )


def _heads(check: Check, size: Size) -> None:
    """The logits of all tokens at once, as many as the trainer chooses, and more of them."""
    for what, tokens in (
        ("logits whole", 0),
        ("logits in the pieces that are chosen", None),
        ("logits 4,096 tokens at a time", 8 if check.smoke else 4096),
        ("logits 16,384 tokens at a time", 16 if check.smoke else 16384),
    ):
        _way(check, size, what, train__loss_chunk_tokens=tokens)
