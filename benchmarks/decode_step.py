"""One token for one client: what a step of decoding takes beyond reading the weights.

The processor's time, on one thread in fp32, of a token with 64 tokens before it: the matrix-vector
products alone, which read every weight once, and the same by oneDNN with packed weights; the
model's own modules with a key-value cache; the same as blocks for one token; and the whole step,
with the choice of the token, of `generate` and of the server's decoder. In turns, the best of many.
Hold: a whole step takes at most 1.5 times the products alone.

    python -m benchmarks.decode_step [--quick]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from benchmarks.kv_cache import SHAPES
from benchmarks.record import Hold, Result, Row, run_alone

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.model.language_model import LanguageModel

BEFORE = 64  # tokens
AT_MOST = 1.5
PRODUCTS = "the products alone"
PACKED = "the products by oneDNN, packed"
MODULES = "the model's modules"
BLOCKS = "blocks for one token"
GENERATE = "generate"
TURN = "a turn of the decoder"


def matrices(model: LanguageModel) -> Iterator[Tensor]:
    """Every matrix of the blocks and the head, (O, I)."""
    from torch import nn

    from trainer.model.gpt2 import Affine

    for module in model.modules():
        if isinstance(module, nn.Linear | Affine):
            weight = module.weight.detach()
            yield weight.t() if isinstance(module, Affine) else weight


def products(model: LanguageModel) -> Callable[[], None]:
    """Every matrix times a vector."""
    import torch

    pairs = [(matrix, torch.randn(matrix.shape[1])) for matrix in matrices(model)]

    def step() -> None:
        for matrix, vector in pairs:
            torch.mv(matrix, vector)

    return step


def packed_products(model: LanguageModel) -> Callable[[], None]:
    """The same as a matrix product of one row."""
    import torch

    from trainer.model.inference.linears import PackedLinear

    pairs = [
        (PackedLinear(matrix, None), torch.randn(1, matrix.shape[1])) for matrix in matrices(model)
    ]

    def step() -> None:
        for layer, row in pairs:
            layer.rows(row)

    return step


def forward(model: LanguageModel) -> Callable[[], None]:
    """A pass over one token and the head, always at the same position."""
    import torch

    cache = model.new_cache(1, 2 * BEFORE)
    model.body(torch.arange(BEFORE)[None], cache)
    ids_11 = torch.tensor([[5]])

    def step() -> None:
        cache.length = BEFORE
        model.lm_head(model.body(ids_11, cache))

    return step


def generating(model: LanguageModel) -> Callable[[], None]:
    """The next token of `generate`, from a prompt of its own whenever one is at its end."""
    from trainer.generate.decoding import generate
    from trainer.generate.sampling import Sampling

    def tokens() -> Iterator[int]:
        while True:
            yield from generate(model, range(BEFORE), BEFORE, Sampling(temperature=0))

    endless = tokens()

    def step() -> None:
        next(endless)

    return step


def turning(model: LanguageModel) -> Callable[[], None]:
    """A turn of a decoder with one job."""
    from trainer.generate.batched.building import build_decoder, plan_decoder
    from trainer.generate.batched.job import Job
    from trainer.generate.sampling import Sampling

    plan = plan_decoder(model, slots=2, precision="fp32", prefill_chunk=BEFORE)
    decoder = build_decoder(model, plan, model.dimensions.V)
    job = Job(tuple(range(BEFORE)), BEFORE, Sampling(temperature=0))

    def step() -> None:
        if not decoder.running:
            decoder.admit(decoder.running_of(job))
        decoder.turn()

    return step


def compare(model: LanguageModel, rounds: int) -> dict[str, float]:
    """Milliseconds of the processor for a step of each, the best of `rounds`."""
    import torch

    from trainer.model.inference.packing import can_pack, for_one_client

    with torch.inference_mode():
        steps = {
            PRODUCTS: products(model),
            **({PACKED: packed_products(model)} if can_pack("fp32") else {}),
            MODULES: forward(model),
            BLOCKS: forward(for_one_client(model)),
            GENERATE: generating(model),
            TURN: turning(model),
        }
        best = dict.fromkeys(steps, float("inf"))
        for _ in range(rounds):
            for name, step in steps.items():
                for _ in range(3):
                    started = time.thread_time()
                    step()
                    best[name] = min(best[name], time.thread_time() - started)
    return {name: 1000 * seconds for name, seconds in best.items()}


def measure(*, quick: bool = False) -> Result:
    """Both shapes of `benchmarks.kv_cache`."""
    import torch

    from trainer.config.model import ModelConfig
    from trainer.model.language_model import LanguageModel

    torch.set_num_threads(1)
    rows: list[Row] = []
    holds: list[Hold] = []
    for name, shape in SHAPES.items():
        model = LanguageModel(ModelConfig.model_validate(shape))
        model.initialize(0)
        model.eval()
        found = compare(model, 5 if quick else 20)
        least = found[PRODUCTS]
        rows.append(Row(f"{name}: {PRODUCTS}", least, "ms"))
        rows += [
            Row(f"{name}: {what}", ms, "ms", PRODUCTS, ms / least)
            for what, ms in found.items()
            if what != PRODUCTS
        ]
        worst = max(found[GENERATE], found[TURN]) / least
        number = f"{name}: a whole step ≤ {AT_MOST}x the products"
        holds.append(Hold(number, f"{worst:.2f}x", worst <= AT_MOST))
    return Result(rows, holds, ["Processor time."])


def main() -> int:
    """Measure and print."""
    return run_alone(__doc__, measure)


if __name__ == "__main__":
    sys.exit(main())
