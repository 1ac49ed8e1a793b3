"""Peak memory of the presets on the GPU, beside what `--dry-run` estimates."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu_check.check import FAILURES, Check, forget, short
from benchmarks.gpu_check.speed import loop_speed

#: Those whose weights, gradients and optimizer fit into 80 GB and are drawn in a few seconds.
PRESETS = (
    "minigpt-small",
    "tiny-cpu",
    "d20",
    "minigpt",
    "gpt2-small",
    "nano-125m",
    "d20-e3-full",
    "nano-1b",
)
BATCH, LENGTH = 2, 256
WITHIN = 0.10  # of the peak
TWELVE = 12e9  # bytes: what the MiniGPT guide says its model fits into
SECONDS = 12  # for one preset


def presets(check: Check) -> None:
    """Every preset at batch 2 and 256 tokens, and MiniGPT at its own batch."""
    for preset in PRESETS[:2] if check.smoke else PRESETS:
        if check.left < SECONDS:
            check.report.add(_section(BATCH, LENGTH), preset, "not run", "no time left")
            continue
        length = min(LENGTH, _context(preset))
        _peak(check, preset, train__batch_size=BATCH, train__seq_len=length)
    if check.left >= SECONDS:
        found = _peak(check, "minigpt", train__batch_size=32, train__seq_len=512)
        if found:
            verdict = "yes" if found <= TWELVE else "NO"
            check.report.add(_section(32, 512), "minigpt within 12 GB", verdict, "item 003-27")


def _context(preset: str) -> int:
    from trainer.config.resolve import load_source

    context: int = load_source(preset)[0]["model.max_seq_len"]
    return context


def _section(batch: int, length: int) -> str:
    return f"Peak memory, batch {batch} x {length}"


def _peak(check: Check, preset: str, **changes: Any) -> int | None:
    """Bytes, reported beside the estimate; None when the training failed."""
    from benchmarks.gpu_check.check import resolved
    from trainer.loop.plan import plan

    settings = check.settings(preset, **changes)
    section = _section(changes["train__batch_size"], settings["train.seq_len"])
    command = (
        f"trainer train --config {preset} --dataset synthetic --device cuda --no-compile "
        f"--batch-size {settings['train.batch_size']} --seq-len {settings['train.seq_len']}"
    )
    try:
        forget()
        estimate = plan(resolved(settings)).memory.total
        speed = loop_speed(check, settings, warmup=1, seconds=0.5)
    except FAILURES as error:
        check.report.add(section, preset, "failed", short(error))
        return None
    peak = speed.peak_bytes
    ratio = f"estimate {estimate / 2**30:.2f} GiB"
    if peak:
        near = "" if abs(estimate / peak - 1) <= WITHIN else " (NOT within 10 %)"
        ratio += f", {estimate / peak:.2f}x{near}"
    check.report.add(section, preset, f"{peak / 2**30:.2f} GiB", f"{ratio}; `{command}`")
    return peak
