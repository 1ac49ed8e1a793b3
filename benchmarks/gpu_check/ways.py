"""The same training in other ways: eager, with recomputed blocks, with the head in chunks."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu_check.check import Check, short
from benchmarks.gpu_check.sizes import SIZES, Size, measured
from benchmarks.gpu_check.speed import Speed, loop_speed, remark_on

SECTION = "Ways to train, bf16, eager"
SECONDS = 20  # for one way


def ways(check: Check) -> None:
    """Eager; with gradient checkpointing; and the 124M model's head whole and in chunks."""
    for size in SIZES:
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
    """The logits of all tokens at once, and of a few thousand at a time."""
    from trainer.model.loss import LossMemory

    for what, memory in (
        ("logits whole", LossMemory(logits=1 << 62)),
        ("logits 4,096 tokens at a time", LossMemory(logits=0, chunk=8 if check.smoke else 4096)),
        (
            "logits 16,384 tokens at a time",
            LossMemory(logits=0, chunk=16 if check.smoke else 16384),
        ),
    ):
        if check.left < SECONDS:
            return
        label = f"{size.describe()}, {what}"
        try:
            speed = loop_speed(check, size.settings(check), loss_memory=memory, seconds=4.0)
        except RuntimeError as error:
            check.report.add(SECTION, label, "failed", short(error))
            continue
        check.report.add(
            SECTION, label, f"{speed.tokens_per_second:,.0f} tok/s", remark_on(check, speed)
        )
