"""CPU time of `train-monitor --help` and `--json` beyond that of an empty Python process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

ROUNDS = 15


def cpu_milliseconds(command: Sequence[str]) -> float:
    """User and system time of one run of `command`."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return 1000 * (usage.ru_utime + usage.ru_stime)


def main(rounds: int = ROUNDS) -> list[dict[str, object]]:
    """Best of `rounds`; the peer of each row is the bare interpreter."""
    python = [sys.executable]
    with tempfile.TemporaryDirectory() as empty:
        commands = {
            "python -c pass": [*python, "-c", "pass"],
            "train-monitor --help": [*python, "-m", "monitor", "--help"],
            "train-monitor --json": [*python, "-m", "monitor", "--json", "--runs-dir", empty],
        }
        best = {
            name: min(cpu_milliseconds(command) for _ in range(rounds))
            for name, command in commands.items()
        }
    bare = best.pop("python -c pass")
    return [
        {"what": f"{name}, CPU over a bare Python", "value": ms - bare, "unit": "ms", "peer": bare}
        for name, ms in best.items()
    ]


if __name__ == "__main__":
    for row in main():
        print(f"{row['what']:<44}{row['value']:>8.1f} {row['unit']}  (bare {row['peer']:.1f})")
