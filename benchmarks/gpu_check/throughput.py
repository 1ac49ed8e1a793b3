"""Tokens per second: by batch size, and with one thing changed at a time."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu_check.check import Check, short
from benchmarks.gpu_check.speed import Speed, bare_speed, loop_speed, remark_on


def throughput(check: Check) -> None:
    """Tokens per second by batch size, eager and compiled; the best batch is kept."""
    batches = (4,) if check.smoke else (16, 64, 128)
    best = 0.0
    for compiled in (False,) if check.smoke else (True, False):
        for batch in batches:
            if check.left < 45:
                return
            what = f"{'compiled' if compiled else 'eager'}, batch {batch} x {check.seq_len}"
            try:
                settings = check.settings(train__batch_size=batch, train__compile=compiled)
                speed = loop_speed(check, settings)
            except RuntimeError as error:  # out of memory is one
                check.report.add("Throughput, bf16", what, "failed", short(error))
                continue
            tokens = speed.tokens_per_second
            check.report.add(
                "Throughput, bf16", what, f"{tokens:,.0f} tok/s", remark_on(check, speed)
            )
            if tokens > best:
                best, check.batch_size = tokens, batch


def variants(check: Check) -> None:
    """One thing changed at a time, at the best batch."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from trainer.model.loss import LossMemory

    compiled = not check.smoke
    section = f"Variants, batch {check.batch_size}{', compiled' if compiled else ''}"

    def add(what: str, speed: Speed) -> float:
        tokens = speed.tokens_per_second
        remark = remark_on(check, speed)
        if base:
            remark = f"{tokens / base:.3f}x the base; {remark}"
        check.report.add(section, what, f"{tokens:,.0f} tok/s", remark)
        return tokens

    def settings(**changes: Any) -> dict[str, Any]:
        return check.settings(train__compile=compiled, **changes)

    base = 0.0
    base = add("base: the real loop", loop_speed(check, settings()))
    bare = bare_speed(check, settings())
    check.report.add(
        section, "the bare step", f"{bare:,.0f} tok/s", f"the loop reaches {base / bare:.1%} of it"
    )
    orders = {
        "cuDNN attention first": [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION],
        "flash attention first": [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION],
    }
    for what, backends in orders.items() if check.cuda else ():
        if check.left < 45:
            return
        with sdpa_kernel([*backends, SDPBackend.MATH], set_priority=True):
            add(what, loop_speed(check, settings()))
    if check.left < 45:
        return
    for size in (1 << 14, 1 << 30):
        if check.left < 45:
            return
        memory = LossMemory(logits=0, chunk=size)
        try:
            speed = loop_speed(check, settings(), loss_memory=memory)
            add(f"loss in chunks of {size:,} tokens", speed)
        except torch.cuda.OutOfMemoryError as error:
            check.report.add(section, f"loss in chunks of {size:,} tokens", "failed", short(error))
    if check.left < 45:
        return
    vocabulary = check.settings()["model.vocab_size"]
    padded = -(-vocabulary // 64) * 64
    add(
        f"vocabulary padded from {vocabulary} to {padded}",
        loop_speed(check, settings(model__vocab_size=padded)),
    )
    if check.left < 45:
        return
    add("deterministic", loop_speed(check, settings(train__deterministic=True)))
