"""GELU and its gradient on one thread of a CPU: torch's two kernels and our own.

Forward and backward of the feed-forward layer's GELU, at the widths of the 10.7M and the 0.8M model
of `throughput`. Processor time, the least of the repeats, which take turns. The exact GELU is
nanoGPT's; GPT-2 has the tanh approximation. `ATEN_CPU_CAPABILITY=avx2` shows a CPU without AVX-512.

    python -m benchmarks.gelu [--quick]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.record import Result, Row, run_alone

if TYPE_CHECKING:
    from torch import Tensor

SHAPES = {"2048 x 1536": (2048, 1536), "768 x 512": (768, 512)}


def measure(*, quick: bool = False) -> Result:
    """Both shapes in fp32 and bf16."""
    import torch
    import torch.nn.functional as F

    from trainer.model import fused

    torch.set_num_threads(1)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "exact": F.gelu,
        "tanh, torch's": lambda x: F.gelu(x, approximate="tanh"),
        "tanh, ours": fused.gelu,
    }
    rows = []
    for name, shape in SHAPES.items():
        for dtype in (torch.float32, torch.bfloat16):
            least = dict.fromkeys(ways, float("inf"))
            for _ in range(5 if quick else 50):
                for way, gelu in ways.items():
                    x, of_y = (torch.randn(shape).to(dtype) for _ in range(2))
                    given = x.requires_grad_() * 1  # as in a model, it is the result of something
                    began = time.thread_time()
                    y = gelu(given)
                    forward = time.thread_time() - began
                    began = time.thread_time()
                    torch.autograd.grad(y, given, of_y)
                    least[way] = min(least[way], forward + time.thread_time() - began)
            plain = least["tanh, torch's"]
            for way, seconds in least.items():
                what = f"{name}, {str(dtype).removeprefix('torch.')}: {way}"
                peer = "torch's tanh" if way == "tanh, ours" else ""
                ratio = plain / seconds if peer else None
                rows.append(Row(what, seconds * 1e3, "ms", peer, ratio))
    kernels = os.environ.get("ATEN_CPU_CAPABILITY", "the best")
    return Result(rows, [], [f"Kernels of torch: {kernels}."])


def main() -> int:
    """Measure and print."""
    return run_alone(__doc__, measure)


if __name__ == "__main__":
    sys.exit(main())
