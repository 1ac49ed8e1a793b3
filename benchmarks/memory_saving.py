"""What saving memory costs: gradient checkpointing, and the loss in pieces of the tokens.

Each way is a process of its own that makes forward and backward passes on one thread; the ways take
turns. Memory is the peak above what there is before a pass, gradients included: of all tensors, as
they are needed on any device, and of the process (the kernel's `VmHWM`), where a CPU's allocator
adds pieces that it cannot use. Time is that of the processor, of the fastest pass.

    python -m benchmarks memory_saving [--quick]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.record import Hold, Result, Row
from benchmarks.training_memory import peak_bytes

PASSES = 2
#: Where layers take most of the memory, and where the logits do.
LAYERS: dict[str, Any] = {
    "model.vocab_size": 1024,
    "model.hidden_size": 384,
    "model.num_layers": 12,
    "model.num_heads": 6,
    "model.max_seq_len": 256,
    "train.seq_len": 256,
    "train.batch_size": 8,
}
LOGITS: dict[str, Any] = {
    "model.vocab_size": 50257,
    "model.hidden_size": 384,
    "model.num_layers": 2,
    "model.num_heads": 6,
    "model.max_seq_len": 256,
    "train.seq_len": 256,
    "train.batch_size": 8,
}
COMMON = {"data.dataset": "synthetic", "train.device": "cpu", "train.threads": 1}
CHECKPOINTING = {
    "all activations kept": {**LAYERS, "train.grad_checkpoint_every": 0},
    "every 4th block (the guide's)": {**LAYERS, "train.grad_checkpoint_every": 4},
    "every 2nd block": {**LAYERS, "train.grad_checkpoint_every": 2},
    "every block": {**LAYERS, "train.grad_checkpoint_every": 1},
}
PIECES = {
    "logits whole": {**LOGITS, "train.loss_chunk_tokens": 0},
    "pieces as chosen": LOGITS,
    "pieces of 256 tokens": {**LOGITS, "train.loss_chunk_tokens": 256},
}


@dataclass(frozen=True)
class Cost:
    """Bytes of tensors and of the process above those before, processor seconds, and the loss."""

    tensors: int
    memory: int
    seconds: float
    loss: float


def passes(settings: dict[str, Any]) -> Cost:
    """In this process: some forward and backward passes."""
    import psutil

    from trainer.config.resolve import resolve
    from trainer.data.batches import to_tensors
    from trainer.loop.micro_batch import losses_of
    from trainer.loop.plan import plan
    from trainer.loop.session import build

    session = build(plan(resolve({**COMMON, **settings})))
    batch = to_tensors(
        session.sources.train.batch(0, session.config.train.batch_size), session.compute.device
    )

    def one_pass() -> float:
        with session.compute.autocast():
            losses = losses_of(session.forward, batch)
        losses.total.backward()
        session.optimizer.zero_grad()
        return losses.total.item()

    before, best, loss = psutil.Process().memory_info().rss, float("inf"), 0.0
    for _ in range(PASSES):
        started = time.process_time()
        loss = one_pass()
        best = min(best, time.process_time() - started)
    return Cost(_of_tensors(one_pass), peak_bytes() - before, best, loss)


def _of_tensors(one_pass: Callable[[], object]) -> int:
    """The most bytes of tensors that a pass makes and has at once."""
    from torch.distributed._tools.mem_tracker import MemTracker

    tracker = MemTracker()
    with tracker:
        one_pass()
    peak = tracker.get_tracker_snapshot("peak")
    return max(kinds["Total"] for kinds in peak.values())


def compare(ways: dict[str, dict[str, Any]], dtype: str, rounds: int) -> list[Row]:
    """Every way, in turns; the first is what the others are compared with."""
    found: dict[str, Cost] = {}
    for _ in range(rounds):
        for way, settings in ways.items():
            one = _apart({**settings, "train.dtype": dtype})
            best = found.get(way, one)
            found[way] = replace(one, seconds=min(best.seconds, one.seconds))
    peer, whole = next(iter(found.items()))
    rows = []
    for way, cost in found.items():
        assert abs(cost.loss - whole.loss) < 1e-5 * whole.loss, "the losses differ"
        name = f"{dtype}, {way}"
        rows += [
            Row(
                f"{name}: tensors", cost.tensors / 2**20, "MiB", peer, cost.tensors / whole.tensors
            ),
            Row(f"{name}: process", cost.memory / 2**20, "MiB", peer, cost.memory / whole.memory),
            Row(f"{name}: pass", cost.seconds, "s", peer, cost.seconds / whole.seconds),
        ]
    return rows


def _apart(settings: dict[str, Any]) -> Cost:
    command = [sys.executable, "-m", "benchmarks.memory_saving", "--here", json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def measure(*, quick: bool) -> Result:
    """Both comparisons in fp32 and bf16; `quick`: once each, in fp32."""
    rows: list[Row] = []
    for dtype in ("fp32",) if quick else ("fp32", "bf16"):
        for ways in (CHECKPOINTING, PIECES):
            rows += compare(ways, dtype, rounds=1 if quick else 2)
    ratios = {row.what: row.ratio or 0.0 for row in rows}
    memory, seconds = (ratios[f"fp32, every block: {of}"] for of in ("tensors", "pass"))
    piece = ratios["fp32, pieces as chosen: pass"]
    return Result(
        rows,
        [
            Hold("the guide's 75 % less memory", f"{1 - memory:.0%} less", memory <= 0.25),
            Hold("for 33 % more time", f"{seconds - 1:.0%} more", seconds <= 1.33),
            Hold("the loss in pieces takes no more time", f"{piece:.2f}x", piece <= 1.02),
        ],
        ["Layers: 12 blocks of width 384, 2,048 tokens. Logits: 2 blocks, a vocabulary of 50,257."],
    )


def main() -> None:
    """One way, here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--here", required=True)
    print(f"\n{json.dumps(asdict(passes(json.loads(parser.parse_args().here))))}")


if __name__ == "__main__":
    main()
