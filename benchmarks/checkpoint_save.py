"""Saving a checkpoint in the loop's own way, by its parts, beside training, and reading it back.

A 10.7M-parameter model with AdamW's state, written by `write_checkpoint` into a temporary folder:
serialise, fsync, hash and verify (each file read back against the manifest), and the rest.
The stall is what `CheckpointKeeper` keeps the loop from its next step, with the files written by
its own thread and by the loop itself. Hold: <= 15 % of the latter.
Loading is verification, weights, optimizer and generators. The best of several repeats. The
baseline is `safetensors.save_file` of the same tensors with an fsync.

    python -m benchmarks.checkpoint_save [--quick]
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.record import Hold, Result, Row, run_alone
from benchmarks.training_run import open_run, write_tokens

REPEATS = 5
SETTINGS = {
    "model.flavour": "gpt2",
    "model.vocab_size": 65,
    "model.hidden_size": 384,
    "model.num_layers": 6,
    "model.num_heads": 6,
    "model.max_seq_len": 256,
    "train.batch_size": 1,
    "train.seq_len": 64,
    "train.max_steps": 10,
    "train.device": "cpu",
}
#: The functions `write_checkpoint` calls, and which part of the work each is.
PARTS = {
    "write_tensors": "write and fsync",
    "fsync_file": "fsync again",
    "fsync_directory": "fsync again",
    "write_manifest": "hash",
    "verify_folder": "verify",
}


@contextlib.contextmanager
def timed_parts(seconds: dict[str, float]) -> Iterator[None]:
    """While entered, the seconds inside each of PARTS are added to `seconds`."""
    from trainer.checkpoint import saving

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - started

        return call

    originals = {name: getattr(saving, name) for name in PARTS}
    for name, function in originals.items():
        setattr(saving, name, timed(function, PARTS[name]))
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(saving, name, function)


def snapshot(session: Any, run_id: str) -> Any:
    """What the loop hands to `write_checkpoint`."""
    from trainer.checkpoint.saving import Snapshot, training_state, weight_tensors

    state, generators = training_state(session.optimizer)
    return Snapshot(
        config=session.config,
        progress=session.progress,
        weights=weight_tensors(session.model),
        state=state,
        random=generators,
        tokenizer=None,
        run_id=run_id,
        run_path="",
    )


def fill_optimizer(session: Any) -> None:
    """One step with zero gradients, so that AdamW has its moments."""
    import torch

    for parameter in session.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    session.optimizer.step(1e-3)
    session.optimizer.zero_grad()


def bare_save(folder: Path, taken: Any) -> float:
    """Seconds of `save_file` and fsync of the same tensors."""
    from safetensors.torch import save_file

    from shared.files import fsync_file

    started = time.perf_counter()
    for name, tensors in (("weights", taken.weights), ("state", taken.state)):
        path = folder / f"bare-{name}.safetensors"
        save_file(tensors, path)
        fsync_file(path)
    return time.perf_counter() - started


def stalls(session: Any, writer: Any, repeats: int) -> Iterator[tuple[str, float]]:
    """Seconds that the loop is kept: with the save beside it, and with the save in it."""
    from trainer.loop.keeper import CheckpointKeeper

    keeper = CheckpointKeeper(session, writer)
    for _ in range(repeats):
        for name, save in (("beside", keeper.save_beside), ("in the loop", keeper.save)):
            session.progress.step += 1
            started = time.perf_counter()
            save()
            yield f"stall {name}", time.perf_counter() - started
            keeper.wait()
    keeper.close()


def measure(*, quick: bool = False) -> Result:
    """Saving, its parts, and loading."""
    from trainer.checkpoint.loading import load_training_state, verify
    from trainer.checkpoint.saving import write_checkpoint

    best: dict[str, float] = {}

    def keep(name: str, seconds: float) -> None:
        best[name] = min(best.get(name, seconds), seconds)

    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        root = Path(name)
        tokens = write_tokens(root / "train.bin", 65, 10_000)
        session, writer = open_run({**SETTINGS, "data.path": str(tokens)}, root / "runs")
        stack.enter_context(writer)
        fill_optimizer(session)
        (root / "checkpoints").mkdir()
        for _ in range(2 if quick else REPEATS):
            taken = snapshot(session, writer.run.run_id)
            keep("bare", bare_save(root, taken))
            parts: dict[str, float] = {}
            started = time.perf_counter()
            with timed_parts(parts):
                folder = write_checkpoint(root / "checkpoints", taken)
            parts["save"] = time.perf_counter() - started
            parts["the rest"] = 2 * parts["save"] - sum(parts.values())
            for part, seconds in parts.items():
                keep(part, seconds)
            started = time.perf_counter()
            verify(folder)
            keep("load: verify", time.perf_counter() - started)
            load_training_state(folder, session.model, session.optimizer)
            keep("load with verify", time.perf_counter() - started)
        for part, seconds in stalls(session, writer, 2 if quick else REPEATS):
            keep(part, seconds)
        size = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
    rows = [
        Row("bare save_file + fsync", best["bare"] * 1e3, "ms"),
        Row("save", best["save"] * 1e3, "ms", "bare", best["save"] / best["bare"]),
        *(
            Row(f"of it: {part}", best[part] * 1e3, "ms")
            for part in ("write and fsync", "fsync again", "hash", "verify", "the rest")
        ),
        Row("save", size / best["save"], "MB/s"),
        Row("stall, saved in the loop", best["stall in the loop"] * 1e3, "ms"),
        Row(
            "stall, saved beside it",
            best["stall beside"] * 1e3,
            "ms",
            "in the loop",
            best["stall beside"] / best["stall in the loop"],
        ),
        Row("load with verify", best["load with verify"] * 1e3, "ms"),
        Row("of it: verify", best["load: verify"] * 1e3, "ms"),
        Row("load with verify", size / best["load with verify"], "MB/s"),
    ]
    share = best["stall beside"] / best["stall in the loop"]
    hold = Hold(
        "a background save stalls the loop <= 15 % of a save in it", f"{share:.1%}", share <= 0.15
    )
    return Result(rows, [hold], [f"{size:.0f} MB in all, on the disk of the temporary folder."])


def main() -> int:
    """Measure and print."""
    return run_alone(__doc__, measure)


if __name__ == "__main__":
    sys.exit(main())
