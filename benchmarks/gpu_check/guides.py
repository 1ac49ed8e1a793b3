"""What the guides say of a GPU: the speed of their scripts, and that of the CPU beside it."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu_check.check import FAILURES, Check, short
from benchmarks.gpu_check.sizes import measured
from benchmarks.gpu_check.speed import Speed, loop_speed

SECTION = "The guides"
SECONDS = 20
#: `train_nano125m_4090.sh`, `train_production.sh` and the batches of its 16 GB and 32 GB cards.
SCRIPTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "train_nano125m_4090.sh (001-31: 2,200 tok/s, 21.4 GB)",
        "nano-125m",
        {"train__batch_size": 2, "train__accumulation_steps": 4, "train__seq_len": 256},
    ),
    ("train_production.sh, BATCH_SIZE=1 (004-19)", "d20", {"train__batch_size": 1}),
    (
        "train_production.sh, BATCH_SIZE=2 (004-27: 0.5 to 1.5 steps/s)",
        "d20",
        {"train__batch_size": 2},
    ),
    ("train_production.sh, BATCH_SIZE=4 (004-19)", "d20", {"train__batch_size": 4}),
)


def guides(check: Check) -> None:
    """Their scripts' settings on the GPU, and 100M parameters on CPU and GPU."""
    for what, preset, changes in SCRIPTS:
        if check.left < SECONDS:
            return
        length = {"train__seq_len": 256} | changes
        speed = measured(check, SECTION, what, check.settings(preset, **length))
        if speed:
            check.report.add(SECTION, f"{what}: steps", f"{1000 / speed.step_ms:.1f} steps/s")
    if check.left >= SECONDS:
        _against_the_cpu(check)


def _against_the_cpu(check: Check) -> None:
    """A step of the 100M shape (002-34, 002-35) on both, at the same settings."""
    shape = {
        "train__batch_size": 2,
        "train__seq_len": 256,
        "model__ternary": False,
        "model__hyper_streams": 0,
        "model__hyper_dynamic": False,
        "train__dtype": "auto",
    }
    speeds: list[Speed] = []
    for device in (str(check.device), "cpu"):
        what = f"100M shape (002-35), batch 2 x 256, {device}"
        try:
            settings = check.settings("nano-125m", **shape, train__device=device)
            speed = loop_speed(check, settings, warmup=1, seconds=3.0)
        except FAILURES as error:
            check.report.add(SECTION, what, "failed", short(error))
            return
        speeds.append(speed)
        check.report.add(SECTION, what, f"{1000 / speed.step_ms:.2f} steps/s")
    ratio = speeds[1].step_ms / speeds[0].step_ms
    check.report.add(SECTION, "GPU beside CPU", f"{ratio:.1f}x", "the guide: 5 to 10x")
