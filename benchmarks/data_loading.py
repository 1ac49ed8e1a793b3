"""What shards and mixing cost the loader, beside one file of the same tokens.

Batches of random windows of 1,024 tokens, 64 at a time as the loop cuts them, from one file, from
1,000 shards of which 256 stay mapped, and from a mixture of three such sources, in turns. Processor
time per sequence, best of the rounds; the files are in the page cache. A sequence of 1,024 tokens
takes a GPU milliseconds, so 100 µs are the number to hold.

    python -m benchmarks data_loading
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.record import Hold, Result, Row
from trainer.data.batches import SampleSource, TokenBatches
from trainer.data.mixing import MixedBatches, Part
from trainer.data.shards.stream import ShardedTokens
from trainer.data.tokens import TokenFile

SEQ_LEN = 1024
TOGETHER = 64
SHARDS = 1000
SHARD_TOKENS = 1 << 15
MOST_US = 100.0


def _sources(folder: Path) -> dict[str, SampleSource]:
    """The same tokens in one file and in shards, and mixtures of them."""
    whole, paths = folder / "whole", []
    random = np.random.default_rng(0)
    with whole.open("wb") as file:
        for number in range(SHARDS):
            tokens = random.integers(0, 50_000, SHARD_TOKENS, dtype=np.uint32)
            paths.append(folder / f"{number:05}")
            tokens.tofile(paths[-1])
            file.write(tokens.data)
    one = TokenFile(whole, np.memmap(whole, dtype="<u4", mode="r"), 50_000, None)
    stream = ShardedTokens(paths, [SHARD_TOKENS] * SHARDS)
    many = TokenFile(whole, stream, 50_000, None)

    def mixed(file: TokenFile) -> MixedBatches:
        shares = {"a": 0.6, "b": 0.3, "c": 0.1}
        return MixedBatches(
            [
                Part(name, share, TokenBatches(file, SEQ_LEN, seed))
                for seed, (name, share) in enumerate(shares.items())
            ]
        )

    return {
        "one file": TokenBatches(one, SEQ_LEN, 1),
        f"{SHARDS:,} shards": TokenBatches(many, SEQ_LEN, 1),
        "three sources, a file each": mixed(one),
        "three sources in shards": mixed(many),
    }


def _round(source: SampleSource, first: int, batches: int) -> float:
    """Microseconds of the processor per sequence."""
    started = time.process_time()
    for number in range(batches):
        source.batch(first + number * TOGETHER, TOGETHER)
    return 1e6 * (time.process_time() - started) / (batches * TOGETHER)


def measure(*, quick: bool) -> Result:
    """The figures; `quick` makes them rougher."""
    rounds, batches = (3, 10) if quick else (15, 40)
    with tempfile.TemporaryDirectory() as name:
        sources = _sources(Path(name))
        best = dict.fromkeys(sources, float("inf"))
        for number in range(rounds):
            for label, source in sources.items():
                took = _round(source, number * batches * TOGETHER, batches)
                best[label] = min(best[label], took)
    peer, *others = best
    rows = [Row(peer, best[peer], "µs per sequence")]
    rows += [
        Row(label, best[label], "µs per sequence", peer, best[label] / best[peer])
        for label in others
    ]
    worst = max(best.values())
    number = f"≤ {MOST_US:g} µs for a sequence of {SEQ_LEN:,} tokens"
    return Result(rows, [Hold(number, f"{worst:.0f} µs", worst <= MOST_US)])


if __name__ == "__main__":
    for row in measure(quick=True).rows:
        print(f"{row.what:28} {row.value:8.1f} {row.unit}")
