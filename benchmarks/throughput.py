"""Tokens per second of the whole training loop against a plain nanoGPT-style loop.

Same shape, batch and number of threads; processes take turns. Ours is the real loop with its
records, with the default `dtype auto` and with fp32 to show what bf16 contributes. Dropout 0. The
figure is the best round of each, on one thread by default: on a shared machine two threads would
measure the neighbours. Hold: >= 1.0x everywhere; >= 2.5x at 10.7M parameters on a CPU with fast
bf16.

    python -m benchmarks.throughput [--quick] [--threads N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.interleave import Best, Turns, interleave
from benchmarks.nanogpt import Loop, Shape
from benchmarks.record import Hold, Result, Row, report
from benchmarks.training_run import open_run, write_tokens


@dataclass(frozen=True)
class Case:
    """A shape, how long it is measured, what must hold."""

    title: str
    shape: Shape
    steps_per_round: int
    rounds: int
    hold: float
    hold_fast_bf16: float


CASES = {
    "0.8M": Case("0.8M (L4 d128 T64 B12)", Shape(4, 4, 128, 64, 12), 20, 16, 1.0, 1.0),
    "10.7M": Case("10.7M (L6 d384 T256 B8)", Shape(6, 6, 384, 256, 8), 1, 16, 1.0, 2.5),
}
PEER = "nanoGPT-style loop"


def settings(shape: Shape, dtype: str, threads: int, tokens: Path) -> dict[str, Any]:
    """Our configuration of a shape."""
    return {
        "model.flavour": "gpt2",
        "model.vocab_size": shape.vocab_size,
        "model.hidden_size": shape.width,
        "model.num_layers": shape.num_layers,
        "model.num_heads": shape.num_heads,
        "model.max_seq_len": shape.seq_len,
        "model.norm_eps": 1e-5,
        "data.path": str(tokens),
        "optim.learning_rate": 1e-3,
        "optim.beta2": 0.99,
        "train.batch_size": shape.batch_size,
        "train.seq_len": shape.seq_len,
        "train.max_steps": 2000,
        "train.device": "cpu",
        "train.dtype": dtype,
        "train.threads": threads,
    }


def work(who: str, case: Case, threads: int, tokens: Path) -> None:
    """Be a worker: train until told to stop."""
    import torch

    torch.set_num_threads(threads)
    turns = Turns(case.steps_per_round, warmup=3)
    if who == PEER:
        loop = Loop(case.shape, tokens)
        while True:
            turns.step()
            loop.step()
    from trainer.loop.training import Training

    folder = tokens.parent / f"runs-{who}"
    session, writer = open_run(settings(case.shape, who, threads, tokens), folder, turns.step)
    with writer:
        Training(session, writer).run()


def compare(name: str, threads: int, rounds: int | None = None) -> dict[str, Best]:
    """Best rounds of the peer, of ours as it comes, and of ours in fp32."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        tokens = write_tokens(Path(folder) / "train.bin", case.shape.vocab_size)
        rest = [name, "--threads", str(threads), "--tokens", str(tokens)]
        return interleave(
            {
                who: ["-m", "benchmarks.throughput", "--worker", who, "--case", *rest]
                for who in (PEER, "auto", "fp32")
            },
            rounds or case.rounds,
        )


def measure(*, quick: bool = False, threads: int = 1) -> Result:
    """All cases."""
    from trainer.distributed.speed import has_fast_bf16

    rows, holds, notes = [], [], [f"Threads: {threads}."]
    for name, case in CASES.items():
        best = compare(name, threads, 3 if quick else None)
        tokens = case.steps_per_round * case.shape.batch_size * case.shape.seq_len
        peer = best[PEER]
        rows.append(Row(f"{case.title}: {PEER}, fp32", tokens / peer.wall, "tok/s"))
        for who, shown in (("auto", "ours, dtype auto"), ("fp32", "ours, fp32")):
            ratio = peer.wall / best[who].wall
            rows.append(
                Row(f"{case.title}: {shown}", tokens / best[who].wall, "tok/s", PEER, ratio)
            )
        least = case.hold_fast_bf16 if has_fast_bf16() else case.hold
        ratio = peer.wall / best["auto"].wall
        holds.append(Hold(f"{name}: ≥ {least:g}x the peer", f"{ratio:.2f}x", ratio >= least))
        notes.append(f"In CPU time at {name}: {peer.cpu / best['auto'].cpu:.2f}x.")
    return Result(rows, holds, notes)


def main() -> int:
    """Measure and print, or be one of the workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, CASES[options.case], options.threads, options.tokens)
        return 0
    return report(measure(quick=options.quick, threads=options.threads), options.json)


if __name__ == "__main__":
    sys.exit(main())
