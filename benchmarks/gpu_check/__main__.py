"""Everything that can only be measured on a CUDA machine, in one command of under eight minutes.

    python3 -m benchmarks.gpu_check [--out FILE] [--minutes 7.5] [--only SECTION …]

Run in the folder that holds `trainer/`, `shared/` and `benchmarks/`. Besides torch, numpy and
safetensors it needs tokenizers, orjson, pydantic, PyYAML and psutil, and nothing else of what the
project installs. Every figure is printed and written to FILE (default docs/gpu.md) as soon as it
is known, a section that fails does not take the others with it, and none is begun that the time
left would not do. When the time is up all the same, the script ends and what it has is in FILE.
The sections come in the order of what matters most; `--only` runs those that were left out, and
leaves the others in FILE as they are. `--smoke` goes through all of it with a tiny model on the
CPU, without its compiler.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu_check.attention import attention
from benchmarks.gpu_check.check import Check, Report, TimeUpError, short
from benchmarks.gpu_check.environment import environment
from benchmarks.gpu_check.generation import generation
from benchmarks.gpu_check.guides import guides
from benchmarks.gpu_check.kernels import profiled_step
from benchmarks.gpu_check.learning import learning
from benchmarks.gpu_check.presets import presets
from benchmarks.gpu_check.resume import resume, resume_compiled, train_to_the_end
from benchmarks.gpu_check.sizes import train_throughput
from benchmarks.gpu_check.variants import variants
from benchmarks.gpu_check.ways import ways

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Section:
    """What to run, and about how many seconds it wants."""

    work: Callable[[Check], None]
    seconds: float


SECTIONS = {
    "environment": Section(environment, 0),
    "train_throughput": Section(train_throughput, 60),
    "attention": Section(attention, 15),
    "resume": Section(resume, 40),
    "presets": Section(presets, 20),
    "ways": Section(ways, 20),
    "guides": Section(guides, 20),
    "profile": Section(profiled_step, 15),
    "learning": Section(learning, 40),
    "generation": Section(generation, 20),
    "resume_compiled": Section(resume_compiled, 90),
    "variants": Section(variants, 90),
}
#: Seconds before the end at which the work is interrupted, and at which the process ends although
#: it does not come back from a library.
INTERRUPT, LAST = 15.0, 3.0


@contextlib.contextmanager
def time_budget(
    check: Check, leave: Callable[[int], object] = os._exit, last: float = LAST
) -> Iterator[None]:
    """Raise TimeUpError in the work shortly before the deadline; `last` seconds before it, `leave`
    the process if that did not help."""
    if check.left <= INTERRUPT:
        yield
        return

    def interrupt(*_: object) -> None:
        raise TimeUpError

    def end() -> None:
        check.report.add("Time", "ended by force", f"{check.left:.0f} s before the end")
        leave(3)

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, check.left - INTERRUPT)
    timer = threading.Timer(check.left - last, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        timer.cancel()


def run(check: Check, names: list[str], sections: Mapping[str, Section] = SECTIONS) -> int:
    """All sections asked for; the number of those that failed."""
    failed = 0
    for name in names:
        section = sections[name]
        print(f"== {name} ({check.left:.0f} s left)", flush=True)
        if check.left < section.seconds:
            check.report.add("Left out", name, "not run", f"{check.left:.0f} s were left")
            continue
        started = time.monotonic()
        try:
            section.work(check)
        except TimeUpError:
            check.report.add("Left out", f"the rest from {name} on", "not run", "time is up")
            break
        except Exception as error:
            failed += 1
            traceback.print_exc()
            check.report.add("Failures", name, type(error).__name__, short(error))
        print(f"   {name} took {time.monotonic() - started:.0f} s", flush=True)
    return failed


def main(arguments: list[str] | None = None) -> int:
    """The exit status is 2 without CUDA, 1 when a section failed."""
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.gpu_check", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--out", type=Path, help="markdown file (default docs/gpu.md)")
    parser.add_argument("--minutes", type=float, default=7.5, help="time budget (default 7.5)")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="run only these sections")
    parser.add_argument("--smoke", action="store_true", help="a tiny model on the CPU")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    started = time.monotonic()  # loading torch counts
    # Read by cuBLAS when its first handle is made; the default of recent GPUs anyway.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if options.worker:
        print(train_to_the_end(json.loads(options.worker)))
        return 0
    import torch

    if not options.smoke and not torch.cuda.is_available():
        print(
            f"There is no CUDA device for torch {torch.__version__} here; "
            "run this on a machine with one, or try it with --smoke.",
            file=sys.stderr,
        )
        return 2
    where = "the CPU (smoke run)" if options.smoke else torch.cuda.get_device_name()
    report = Report(
        options.out or (None if options.smoke else ROOT / "docs" / "gpu.md"),
        f"`python3 -m benchmarks.gpu_check` on {where}, {time.strftime('%Y-%m-%d')}.",
    )
    if options.only:
        report.keep_others()
    with tempfile.TemporaryDirectory() as folder:
        check = Check(
            device=torch.device("cpu" if options.smoke else "cuda:0"),
            smoke=options.smoke,
            folder=Path(folder),
            report=report,
            deadline=started + 60 * options.minutes,
        )
        with time_budget(check):
            failed = run(check, options.only or list(SECTIONS))
    report.add("Time", "in all", f"{time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
