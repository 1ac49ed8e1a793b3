"""One step of our Muon against `torch.optim.Muon`, and of every optimizer against AdamW.

The hidden matrices of several models, with gradients in place; the seconds of one step, the best
of several, on one thread. Torch's Muon always computes in bf16, which takes 50 times as long on a
CPU without instructions for it, so ours is measured in bf16 and in fp32, and the default is the
faster one. Hold: the default is not slower than torch's at any size.

    python -m benchmarks.optimizer_step [--quick]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.record import Hold, Result, Row, run_alone

if TYPE_CHECKING:
    from torch import nn

    Named = dict[str, nn.Parameter]

#: Width, feed-forward width, layers.
MODELS = {
    "0.8M": (128, 344, 4),
    "3.7M": (256, 512, 4),
    "nano-125m, 2 of 12 layers": (768, 2176, 2),
}
NOISE = 1.05  # what two measurements of the same thing differ by


def matrices(width: int, inner: int, layers: int) -> Named:
    """The hidden matrices of a Llama-shaped model, each with a gradient."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    shapes = {
        **{f"self_attn.{name}_proj": (width, width) for name in "qkvo"},
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }
    named = {
        f"layers.{layer}.{name}.weight": nn.Parameter(torch.randn(shape))
        for layer in range(layers)
        for name, shape in shapes.items()
    }
    for parameter in named.values():
        parameter.grad = torch.randn_like(parameter)
    return named


def ours(named: Named, name: str, dtype: str = "auto") -> Callable[[], None]:
    """A step of one of our optimizers."""
    from trainer.config.optim import OptimConfig
    from trainer.optim.registry import build_optimizer

    optimizer = build_optimizer(named, OptimConfig(name=name, muon_dtype=dtype))  # type: ignore[arg-type]
    return lambda: optimizer.step(1e-4)


def torchs(named: Named) -> Callable[[], None]:
    """A step of torch's Muon."""
    import torch

    optimizer = torch.optim.Muon(list(named.values()), lr=1e-4, weight_decay=0.1)
    return optimizer.step


def best(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """The least milliseconds of each, taking turns."""
    found = dict.fromkeys(steps, float("inf"))
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            found[name] = min(found[name], 1000 * (time.perf_counter() - started))
    return found


def measure(*, quick: bool = False) -> Result:
    """All sizes."""
    import torch

    from trainer.optim.muon import fastest_dtype

    torch.set_num_threads(1)
    rows, holds = [], []
    fast = fastest_dtype(torch.device("cpu")) == torch.bfloat16
    chosen, other = ("bf16", "fp32") if fast else ("fp32", "bf16")
    for title, shape in MODELS.items():
        steps = {
            "torch": torchs(matrices(*shape)),
            chosen: ours(matrices(*shape), "muon", chosen),
            "adamw": ours(matrices(*shape), "adamw"),
            "lion": ours(matrices(*shape), "lion"),
        }
        if fast:  # else torch's tells how slow bf16 is
            steps[other] = ours(matrices(*shape), "muon", other)
        times = best(steps, 3 if quick else 10)
        peer = times["torch"]
        rows.append(Row(f"{title}: torch.optim.Muon", peer, "ms"))
        for name, shown in ((chosen, f"our Muon, {chosen}"), (other, f"our Muon, {other}")):
            if name in times:
                ratio = times[name] / peer
                rows.append(Row(f"{title}: {shown}", times[name], "ms", "torch's", ratio))
        rows += [
            Row(f"{title}: {name}", times[key], "ms")
            for key, name in (("adamw", "AdamW"), ("lion", "Lion"))
        ]
        ratio = times[chosen] / peer
        holds.append(Hold(f"{title}: ≤ 1x torch's", f"{ratio:.2f}x", ratio <= NOISE))
    return Result(rows, holds)


if __name__ == "__main__":
    sys.exit(run_alone(__doc__, measure))
