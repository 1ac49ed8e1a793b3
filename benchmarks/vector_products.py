"""The matrices of a 25M model times one vector, by every product that torch and numpy have for it.

Decoding for one client is that and little else. The processor's time on one thread in fp32 (but for
the products with narrower weights), all matrices one after another, so that none is in a cache of
the core; in turns, the best of many.

    python -m benchmarks.vector_products [--quick] [--page docs/experiments.md]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import experiments
from benchmarks.record import Result, Row

if TYPE_CHECKING:
    from torch import Tensor

LAYERS = 8
SHAPES = ((1536, 512), (512, 512), (2048, 512), (512, 2048))  # (O, I)
ROUNDS = 12
BASE = "matrix-vector product"


def ways(matrix: Tensor, x: Tensor) -> dict[str, Callable[[], object]]:
    """What computes `matrix` (O, I) times `x` (I,)."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    from trainer.model.inference.linears import HalfLinear, PackedLinear
    from trainer.model.inference.packing import can_pack

    turned, row = matrix.t().contiguous(), x[None]
    halves, twice = matrix.view(2, -1, len(x)), x.expand(2, -1)[..., None]
    turned_array, x_array = turned.numpy(), x.numpy()
    ids, begin = torch.arange(len(x)), torch.zeros(1, dtype=torch.long)
    found: dict[str, Callable[[], object]] = {
        BASE: lambda: torch.mv(matrix, x),
        f"{BASE}, weights (in, out)": lambda: torch.mv(turned.t(), x),
        "matrix product of one row": lambda: F.linear(row, matrix),
        "batch of two halves": lambda: torch.bmm(halves, twice),
        "numpy, weights (in, out)": lambda: np.dot(x_array, turned_array),
        "weighted sum of embeddings": lambda: torch.embedding_bag(
            turned, ids, begin, False, 0, False, x
        ),
    }
    narrow, narrow_x = matrix.bfloat16(), x.bfloat16()
    found["weights and vector in bf16"] = lambda: torch.mv(narrow, narrow_x)
    scales = matrix.abs().amax(dim=1) / 127
    small, scales_O = (matrix / scales[:, None]).round().to(torch.int8), scales.bfloat16()
    found["weights in int8, vector in bf16"] = lambda: torch._weight_int8pack_mm(
        narrow_x[None], small, scales_O
    )
    if can_pack("fp32"):
        packed = PackedLinear(matrix, None)
        found["oneDNN, packed"] = lambda: packed.rows(row)
    if can_pack("fp16"):
        half = HalfLinear(matrix, None)
        found["FBGEMM, packed, fp16"] = lambda: half(row)
    return found


def measure(*, quick: bool = False) -> Result:
    """Milliseconds for all matrices."""
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        vectors = {inputs: torch.randn(inputs) for _, inputs in SHAPES}
        calls: dict[str, list[Callable[[], object]]] = {}
        for outputs, inputs in SHAPES * LAYERS:
            for name, call in ways(torch.randn(outputs, inputs), vectors[inputs]).items():
                calls.setdefault(name, []).append(call)
        best = dict.fromkeys(calls, float("inf"))
        for _ in range(3 if quick else ROUNDS):
            for name, each in calls.items():
                started = time.process_time()
                for call in each:
                    call()
                best[name] = min(best[name], time.process_time() - started)
    least = best[BASE]
    size = 4 * LAYERS * sum(outputs * inputs for outputs, inputs in SHAPES)
    rows = [
        Row(name, 1000 * seconds, "ms")
        if name == BASE
        else Row(name, 1000 * seconds, "ms", BASE, seconds / least)
        for name, seconds in best.items()
    ]
    note = f"{size / 1e6:.0f} MB of weights: {size / least / 1e9:.1f} GB/s by the first."
    return Result(rows, [], [f"Processor time. {note}"])


def main() -> int:
    """Measure, print, and write the section."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is imported
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    return experiments.run(
        "One row at a time",
        __doc__,
        "vector_products",
        lambda: measure(quick=options.quick),
        options.page,
    )


if __name__ == "__main__":
    sys.exit(main())
