"""Compressing a trained checkpoint with `trainer checkpoints compress`, against gzip.

A model of 1.2M parameters trains on Python's own sources for 300 steps (in bf16, with master
weights and AdamW state in fp32, like every run). Its files are compressed and decompressed on
disk, in turns with gzip level 6 (as in the guides) and zstd level 3 on the plain bytes. Best of
the rounds. The weights rounded to bf16, as in an exported model, are a separate file. Ratios are
original size over compressed size; speeds count the original's bytes.

    python -m benchmarks.checkpoint_compression [--quick]
"""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.record import Hold, Result, Row, run_alone
from benchmarks.training_run import open_run

SOURCES = ("argparse.py", "ast.py", "shutil.py", "subprocess.py", "typing.py", "tarfile.py")
STEPS, QUICK_STEPS = 300, 40
ROUNDS = 3
NOTE = (
    "Ours includes SHA-256 both ways and an fsync of the compressed file; gzip checks a CRC-32 and "
    "is not fsynced."
)
BLOCK = 1 << 20
SETTINGS = {
    "model.flavour": "gpt2",
    "model.vocab_size": 2048,
    "model.hidden_size": 128,
    "model.num_layers": 4,
    "model.num_heads": 4,
    "model.max_seq_len": 128,
    "train.batch_size": 16,
    "train.seq_len": 128,
    "train.device": "cpu",
    "train.threads": 1,
    "optim.learning_rate": 3e-3,
    "optim.warmup_steps": 50,
}


@dataclass
class Way:
    """One way to pack a file, and what it came to: bytes, least seconds there and back."""

    name: str
    pack: Callable[[Path, Path], None]
    unpack: Callable[[Path, Path], None]
    size: int = 0
    packing: float = float("inf")
    unpacking: float = float("inf")

    def round(self, source: Path) -> None:
        """Pack `source` beside itself, and back."""
        packed, back = source.with_suffix(".small"), source.with_suffix(".back")
        started = time.perf_counter()
        self.pack(source, packed)
        between = time.perf_counter()
        self.unpack(packed, back)
        self.packing = min(self.packing, between - started)
        self.unpacking = min(self.unpacking, time.perf_counter() - between)
        self.size = packed.stat().st_size
        if back.read_bytes() != source.read_bytes():
            raise RuntimeError(f"{self.name} changed {source.name}")
        packed.unlink()
        back.unlink()


def trained(folder: Path, steps: int) -> list[Path]:
    """The tensors of the last checkpoint of a real run, and the weights in bf16."""
    import torch
    from safetensors.torch import load_file, save_file

    from trainer.data.prepare import PrepareSettings, prepare
    from trainer.loop.signals import StopSignals
    from trainer.loop.training import Training

    stdlib = Path(sysconfig.get_paths()["stdlib"])
    inputs = [str(stdlib / name) for name in SOURCES]
    prepare(
        PrepareSettings(
            inputs=inputs, output=str(folder / "data"), vocab_size=SETTINGS["model.vocab_size"]
        )
    )
    settings = {**SETTINGS, "data.path": str(folder / "data"), "train.max_steps": steps}
    session, writer = open_run(settings, folder / "runs")
    with StopSignals() as signals, contextlib.redirect_stdout(io.StringIO()):
        Training(session, writer, signals).run()
    final = writer.run.checkpoints / "final"
    half = folder / "bf16.safetensors"
    weights = load_file(final / "model.safetensors")
    save_file({name: value.to(torch.bfloat16) for name, value in weights.items()}, half)
    return [final / "model.safetensors", final / "optimizer.safetensors", half]


def ways() -> list[Way]:
    """Ours with one thread and with all, and the peers."""
    from shared.checkpoints.packed_file import LEVEL, available_cores, pack_file, unpack_file, zstd

    entries = {}

    def ours(threads: int, level: int) -> Way:
        def pack(file: Path, target: Path) -> None:
            entries[threads, level] = pack_file(file, target, level=level, threads=threads)

        def unpack(file: Path, target: Path) -> None:
            unpack_file(file, target, entries[threads, level], threads=threads)

        cores = f"{threads} thread{'s' if threads != 1 else ''}"
        return Way(f"ours, level {level}, {cores}", pack, unpack)

    def through(opener: Callable[..., object]) -> tuple[Callable[[Path, Path], None], ...]:
        def pack(file: Path, target: Path) -> None:
            with file.open("rb") as data, opener(target, "wb") as out:  # type: ignore[attr-defined]
                shutil.copyfileobj(data, out, BLOCK)

        def unpack(file: Path, target: Path) -> None:
            with opener(file, "rb") as data, target.open("wb") as out:  # type: ignore[attr-defined]
                shutil.copyfileobj(data, out, BLOCK)

        return pack, unpack

    def zstandard(path: Path, mode: str) -> object:
        return zstd.open(path, mode, level=3) if mode == "wb" else zstd.open(path, mode)

    return [
        Way("gzip -6", *through(lambda p, mode: gzip.open(p, mode, compresslevel=6))),
        Way("zstd -3, plain bytes", *through(zstandard)),
        ours(1, LEVEL),
        ours(1, 9),
        ours(available_cores(), LEVEL),
    ]


def measure(*, quick: bool = False) -> Result:
    """Each file in each way, round by round."""
    rows: list[Row] = []
    worst_ratio = worst_speed = float("inf")
    with tempfile.TemporaryDirectory() as name:
        for source in trained(Path(name), QUICK_STEPS if quick else STEPS):
            size = source.stat().st_size
            compared = ways()
            for _ in range(1 if quick else ROUNDS):
                for way in compared:
                    way.round(source)
            gzipped, *others = compared
            title = {"model": "weights", "optimizer": "optimizer"}.get(source.stem, "bf16 weights")
            for way in compared:
                what = f"{title} ({size / 1e6:.0f} MB), {way.name}"
                peer = way is not gzipped
                rows.append(
                    Row(
                        f"{what}: ratio",
                        size / way.size,
                        "x",
                        "gzip" if peer else "",
                        gzipped.size / way.size if peer else None,
                    )
                )
                for verb, ours, theirs in (
                    ("compress", way.packing, gzipped.packing),
                    ("decompress", way.unpacking, gzipped.unpacking),
                ):
                    rows.append(
                        Row(
                            f"{what}: {verb}",
                            size / 1e6 / ours,
                            "MB/s",
                            "gzip" if peer else "",
                            theirs / ours if peer else None,
                        )
                    )
            ours = others[1]
            worst_ratio = min(worst_ratio, gzipped.size / ours.size)
            worst_speed = min(worst_speed, gzipped.packing / ours.packing)
    return Result(
        rows,
        [
            Hold("smaller than gzip -6", f"≥ {worst_ratio:.2f}x", worst_ratio > 1),
            Hold(
                "≥ 3x as fast as gzip -6, one thread each", f"{worst_speed:.1f}x", worst_speed >= 3
            ),
        ],
        notes=[NOTE],
    )


def main() -> int:
    """Measure and print."""
    return run_alone(__doc__, measure)


if __name__ == "__main__":
    sys.exit(main())
