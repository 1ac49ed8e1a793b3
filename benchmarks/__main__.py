"""Run benchmarks, each in a process of its own, and write what they found into a page.

    python -m benchmarks [NAME …] [--quick] [--page docs/benchmarks.md]

Only the sections of the benchmarks that ran are replaced.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.record import Hold, Result, Row, as_markdown

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Every number the project commits to, how it is measured, and the result. `make bench` runs all
benchmarks and rewrites the sections below; `python -m benchmarks NAME` runs one. Peers take turns
in the same run on the same machine, and the figure is the best round of each. Ratios mean more
than absolute figures, and a busy machine makes both worse. Run `python -m benchmarks.gpu_check` by
hand on a CUDA machine.
"""


def _cold_start(*, quick: bool) -> Result:
    module = importlib.import_module("benchmarks.monitor_cold_start")
    rows = module.main(3) if quick else module.main()
    over = next(row["value"] for row in rows if "--help" in row["what"])
    number = "`train-monitor --help` ≤ 150 ms of CPU over a bare Python"
    return Result(
        [Row(row["what"], row["value"], row["unit"]) for row in rows],
        [Hold(number, f"{over:.0f} ms", over <= 150)],
    )


def _data_preparation(*, quick: bool) -> Result:
    del quick  # it has no shorter form
    module = importlib.import_module("benchmarks.data_preparation")
    figures = module.run()
    ratio, growth = figures["ratio"], figures["memory_growth"]
    return Result(
        [
            Row("bare `tokenizers` batch encoder", figures["bare_mb_per_second"], "MB/s"),
            Row("prepare-data", figures["prepare_mb_per_second"], "MB/s", "bare", ratio),
            Row(
                "prepare-data --shards 8 --workers 2",
                figures["shards_mb_per_second"],
                "MB/s",
                "bare",
                figures["shards_ratio"],
            ),
            Row("peak memory, input of 12 MB", figures["peak_memory_1x"] / 2**20, "MiB"),
            Row("peak memory, input of 48 MB", figures["peak_memory_4x"] / 2**20, "MiB"),
            Row("a shard's process, 12 MB", figures["peak_memory_shards_1x"] / 2**20, "MiB"),
            Row("a shard's process, 48 MB", figures["peak_memory_shards_4x"] / 2**20, "MiB"),
        ],
        [
            Hold(f"≥ {module.HOLD_RATIO}x the bare encoder", f"{ratio:.2f}x", ratio >= 0.8),
            Hold(
                f"memory flat: ≤ {module.HOLD_GROWTH}x for 4x the input",
                f"{growth:.2f}x",
                growth <= module.HOLD_GROWTH,
            ),
        ],
    )


def _own(name: str) -> Callable[..., Result]:
    def measure(*, quick: bool) -> Result:
        result: Result = importlib.import_module(f"benchmarks.{name}").measure(quick=quick)
        return result

    return measure


@dataclass(frozen=True)
class Benchmark:
    """The title of its section, and what measures it."""

    title: str
    measure: Callable[..., Result]


BENCHMARKS = {
    "throughput": Benchmark("Training throughput", _own("throughput")),
    "optimizer_step": Benchmark("A step of the optimizer", _own("optimizer_step")),
    "training_memory": Benchmark("Memory of a training", _own("training_memory")),
    "memory_saving": Benchmark("What saving memory costs", _own("memory_saving")),
    "hundred_million": Benchmark("100M parameters on a CPU", _own("hundred_million")),
    "padded_vocabulary": Benchmark("A padded vocabulary", _own("padded_vocabulary")),
    "document_mask": Benchmark("Documents kept apart", _own("document_mask")),
    "finetune_memory": Benchmark("Fine-tuning: all weights or LoRA", _own("finetune_memory")),
    "loop_overhead": Benchmark("Loop overhead", _own("loop_overhead")),
    "bridges": Benchmark("Other trainers writing our run directory", _own("bridges")),
    "kv_cache": Benchmark("Generation with a key-value cache", _own("kv_cache")),
    "decode_step": Benchmark("A token for one client", _own("decode_step")),
    "serving": Benchmark("Serving many clients", _own("serving")),
    "checkpoint_save": Benchmark("Saving and loading a checkpoint", _own("checkpoint_save")),
    "checkpoint_compression": Benchmark("Packing checkpoints", _own("checkpoint_compression")),
    "export": Benchmark("Writing GGUF", _own("export")),
    "data_preparation": Benchmark("Data preparation", _data_preparation),
    "rust_reward": Benchmark("Judging answers in Rust", _own("rust_reward")),
    "data_loading": Benchmark("Reading training data", _own("data_loading")),
    "reader": Benchmark("Reading metrics", _own("reader")),
    "tensorboard_reading": Benchmark("Reading TensorBoard logs", _own("tensorboard_reading")),
    "monitor_cold_start": Benchmark("The monitor's start", _cold_start),
    "monitor_start": Benchmark("The monitor on a gigabyte", _own("monitor_start")),
    "remote_link": Benchmark("Runs over a slow link", _own("remote_link")),
    "monitor_leet": Benchmark("The monitor beside LEET", _own("monitor_leet")),
    "monitor_live": Benchmark("A step on its way to the screen", _own("monitor_live")),
    "monitor_many": Benchmark("The monitor with many runs", _own("monitor_many")),
    "monitor_chart": Benchmark("The monitor's chart", _own("monitor_chart")),
    "monitor_grid": Benchmark("The grid of charts", _own("monitor_grid")),
    "monitor_cpu": Benchmark("What a monitor computes", _own("monitor_cpu")),
    "monitor_attach": Benchmark("What monitors cost a training", _own("monitor_attach")),
}


def described(name: str) -> str:
    """What a benchmark measures: its module's docstring, without the command."""
    module = importlib.import_module(f"benchmarks.{name}")
    paragraphs = (module.__doc__ or "").strip().split("\n\n")
    return "\n\n".join(p for p in paragraphs if "python" not in p.split("\n")[0].strip()[:12])


def section(name: str, result: Result, where: str, seconds: float) -> str:
    """The benchmark's part of the page."""
    return "\n\n".join(
        (
            f"## {BENCHMARKS[name].title}",
            described(name),
            f"`python -m benchmarks {name}` ({seconds:.0f} s)",
            where,
            as_markdown(result),
        )
    )


def replace_sections(page: str, new: dict[str, str]) -> str:
    """`page` with the sections of the titles in `new` replaced, or added at the end."""
    head, *old = page.rstrip("\n").split("\n## ")
    sections = {part.partition("\n")[0]: "## " + part.rstrip("\n") for part in old}
    sections.update(new)
    return "\n\n".join((head.rstrip("\n"), *sections.values())) + "\n"


def run_apart(name: str, *, quick: bool) -> Result:
    """Measure in a fresh process. Raises RuntimeError when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-m", "benchmarks", name, "--json", str(path)]
        code = subprocess.call([*command, "--quick"] if quick else command, cwd=ROOT)
        if not path.is_file():
            raise RuntimeError(f"the benchmark {name} ended with {code} and no result")
        return Result.from_json(path.read_text(encoding="utf-8"))


def main() -> int:
    """Run what is asked for; the exit status is 1 when a number does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="rougher figures; no page is written")
    parser.add_argument("--page", type=Path, help=f"the page to update (default {PAGE.name})")
    parser.add_argument("--json", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    if options.json:
        result = BENCHMARKS[options.names[0]].measure(quick=options.quick)
        options.json.write_text(result.to_json(), encoding="utf-8")
        return 0
    failed: list[str] = []
    page: Path | None = options.page or (None if options.quick else PAGE)
    for name in options.names or BENCHMARKS:
        print(f"== {name}", flush=True)
        where, started = machine(), time.monotonic()
        try:
            result = run_apart(name, quick=options.quick)
        except (RuntimeError, json.JSONDecodeError) as error:
            print(f"{error}\n", file=sys.stderr)
            failed.append(name)
            continue
        print(as_markdown(result) + "\n", flush=True)
        if not result.passed:
            failed.append(name)
        if page:
            text = section(name, result, where, time.monotonic() - started)
            old = page.read_text(encoding="utf-8") if page.is_file() else HEAD
            page.parent.mkdir(parents=True, exist_ok=True)
            new = replace_sections(old, {BENCHMARKS[name].title: text})
            page.write_text(new, encoding="utf-8")
    if failed:
        print(f"not held, or not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
