"""Generation with the key-value cache against recomputing the whole text for every token.

Greedy, from a prompt of 16 tokens, the same untrained weights for both, in turns. The tokens must
be equal. The figure is the best round of each.

    python -m benchmarks.kv_cache [--quick]
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from benchmarks.record import Hold, Result, Row, run_alone

PROMPT = 16  # tokens
LENGTHS = (64, 256)  # new tokens
REPEATS = 3


@dataclass(frozen=True)
class Speeds:
    """Tokens per second of both ways, and whether they gave the same tokens."""

    cached: float
    uncached: float
    equal: bool


SHAPES: dict[str, dict[str, object]] = {
    "minigpt (gpt2, 25.6M)": {
        "flavour": "gpt2",
        "vocab_size": 99,
        "hidden_size": 512,
        "num_layers": 8,
        "num_heads": 8,
        "max_seq_len": 512,
        "tie_embeddings": False,
    },
    "llama (GQA 8/4, 25.8M)": {
        "flavour": "llama",
        "vocab_size": 4096,
        "hidden_size": 512,
        "num_layers": 8,
        "num_heads": 8,
        "num_kv_heads": 4,
        "max_seq_len": 512,
    },
}


def compare(model: object, new_tokens: int, repeats: int) -> Speeds:
    """Both ways in turns on `model` (a LanguageModel)."""
    import torch

    from trainer.generate.decoding import generate
    from trainer.generate.sampling import Sampling
    from trainer.model.language_model import LanguageModel

    assert isinstance(model, LanguageModel)
    prompt = torch.randint(
        model.dimensions.V, (PROMPT,), generator=torch.Generator().manual_seed(1)
    ).tolist()
    best = {True: float("inf"), False: float("inf")}
    texts: dict[bool, list[int]] = {}
    for _ in range(repeats):
        for use_cache in (True, False):
            started = time.perf_counter()
            tokens = generate(
                model, prompt, new_tokens, Sampling(temperature=0), use_cache=use_cache
            )
            texts[use_cache] = list(tokens)
            best[use_cache] = min(best[use_cache], time.perf_counter() - started)
    return Speeds(new_tokens / best[True], new_tokens / best[False], texts[True] == texts[False])


def measure(*, quick: bool = False) -> Result:
    """Every shape and length, on one thread."""
    import torch

    from trainer.config.model import ModelConfig
    from trainer.model.language_model import LanguageModel

    torch.set_num_threads(1)
    rows: list[Row] = []
    equal, least = True, float("inf")
    for name, shape in SHAPES.items():
        model = LanguageModel(ModelConfig.model_validate(shape))
        model.initialize(0)
        model.eval()
        for new_tokens in LENGTHS[:1] if quick else LENGTHS:
            speeds = compare(model, new_tokens, 1 if quick else REPEATS)
            equal = equal and speeds.equal
            ratio = speeds.cached / speeds.uncached
            least = min(least, ratio)
            what = f"{name}, {new_tokens} new tokens"
            rows.append(Row(f"{what}: uncached", speeds.uncached, "tok/s"))
            rows.append(Row(f"{what}: cached", speeds.cached, "tok/s", "uncached", ratio))
    holds = [
        Hold("the same tokens with and without", "equal" if equal else "different", equal),
        Hold("the cache is faster", f"at least {least:.1f}x", least > 1),
    ]
    return Result(rows, holds, ["One thread, fp32."])


def main() -> int:
    """Measure and print."""
    return run_alone(__doc__, measure)


if __name__ == "__main__":
    sys.exit(main())
