"""The suite in the ways in which machines differ: `python -m tests.portable [WAY…] [-- PYTEST…]`.

Tests may depend neither on the kernels that torch chooses for this CPU, nor on the number of its
threads, nor on how busy the machine is. Each way sets one of these and runs pytest.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

#: Name of a way: what it adds to the environment.
WAYS: dict[str, dict[str, str]] = {
    "default": {"ATEN_CPU_CAPABILITY": "default"},  # no vector instructions at all
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "threads": {"OMP_NUM_THREADS": "2"},
    "busy": {},  # beside two busy processes for each core
}
BURNERS_PER_CORE = 2
#: What `make test` gives pytest.
WHOLE = ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Every core has something else to do, too."""
    count = BURNERS_PER_CORE * (os.cpu_count() or 1)
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def run(way: str, arguments: list[str]) -> int:
    """Run pytest that way; returns its exit code.

    What torch compiles is kept apart: its cache would give one way the kernels of another.
    """
    command = [sys.executable, "-m", "pytest", *(arguments or WHOLE)]
    print(f"{way}: {WAYS[way]} {' '.join(command[1:])}", flush=True)
    with (
        tempfile.TemporaryDirectory() as compiled,
        busy() if way == "busy" else contextlib.nullcontext(),
    ):
        more = {**WAYS[way], "TORCHINDUCTOR_CACHE_DIR": compiled}
        return subprocess.run(command, env={**os.environ, **more}, check=False).returncode


def main(arguments: list[str]) -> int:
    """Run the ways that are named, or all; returns 1 when one of them fails."""
    ways, _, more = " ".join(arguments).partition("--")
    wanted = ways.split() or list(WAYS)
    for way in wanted:
        if way not in WAYS:
            print(f"There is no way {way}; there are {', '.join(WAYS)}.", file=sys.stderr)
            return 2
    results = {way: run(way, more.split()) for way in wanted}
    for way, code in results.items():
        print(f"{way}: {'passed' if code == 0 else f'FAILED ({code})'}")
    return int(any(results.values()))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
