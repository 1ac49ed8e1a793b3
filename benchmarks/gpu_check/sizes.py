"""The three sizes by which trainers are compared: tokens per second, MFU and memory of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.gpu_check.check import FAILURES, Check, short
from benchmarks.gpu_check.speed import Speed, loop_speed, remark_on

GPT2 = {
    "model.flavour": "gpt2",
    "model.vocab_size": 50304,  # padded to a multiple of 64, as nanoGPT's
    "model.norm_eps": 1e-5,
    "model.tie_embeddings": True,
    "model.dropout": 0.0,
}


@dataclass(frozen=True)
class Size:
    """A shape and its batch. `goal` is the MFU to reach on an H200, `seconds` what it takes there
    with a cold compiler (an estimate)."""

    name: str
    model: dict[str, Any] = field(repr=False)
    seq_len: int
    batch: int
    goal: float
    seconds: float

    def settings(self, check: Check, **changes: Any) -> dict[str, Any]:
        """A training of this size. `changes` as in `Check.settings`."""
        own = {key.replace(".", "__"): value for key, value in self.model.items()} | {
            "train__seq_len": self.seq_len,
            "train__batch_size": 4 if check.smoke else self.batch,
        }
        return check.settings("gpt2-small", **(own | changes))

    def describe(self) -> str:
        """Name and batch."""
        return f"{self.name}, batch {self.batch} x {self.seq_len}"


SIZES = (
    Size("124M", GPT2, 1024, 64, 0.50, 60),
    Size(
        "350M",
        GPT2
        | {
            "model.hidden_size": 1024,
            "model.intermediate_size": 4096,
            "model.num_layers": 24,
            "model.num_heads": 16,
        },
        1024,
        32,
        0.55,
        90,
    ),
    Size(
        "1.1B",
        {
            "model.flavour": "llama",
            "model.vocab_size": 32000,
            "model.hidden_size": 2048,
            "model.intermediate_size": 5632,
            "model.num_layers": 22,
            "model.num_heads": 32,
            "model.num_kv_heads": 4,
            "model.tie_embeddings": False,
            "model.dropout": 0.0,
            "model.norm_eps": 1e-5,
        },
        2048,
        16,
        0.58,
        100,
    ),
)
SECTION = "Training throughput, bf16, compiled"


def sizes_of(check: Check) -> tuple[Size, ...]:
    """A smoke run makes its own tiny model of every size: one does."""
    return SIZES[:1] if check.smoke else SIZES


def train_throughput(check: Check) -> None:
    """Each size compiled, with the goal for its MFU beside it."""
    for size in sizes_of(check):
        if check.left < size.seconds and not check.smoke:
            check.report.add(SECTION, size.name, "not run", f"{check.left:.0f} s were left")
            continue
        speed = measured(check, SECTION, size.describe(), size.settings(check, **compiled(check)))
        if speed is None:
            continue
        check.report.add(SECTION, f"{size.name}: attention", speed.attention)
        if speed.mfu is not None:
            check.report.settle(
                SECTION, f"{size.name}: MFU", f"{speed.mfu:.1%}", size.goal, speed.mfu
            )


def compiled(check: Check) -> dict[str, Any]:
    """Compiled, but for a smoke run: the compiler takes longer than all of that."""
    return {"train__compile": not check.smoke}


def measured(check: Check, section: str, what: str, settings: dict[str, Any]) -> Speed | None:
    """Report the speed of a training; None if it failed, which is reported too."""
    try:
        speed = loop_speed(check, settings, seconds=4.0)
    except FAILURES as error:
        check.report.add(section, what, "failed", short(error))
        return None
    check.report.add(
        section, what, f"{speed.tokens_per_second:,.0f} tok/s", remark_on(check, speed)
    )
    return speed
