"""What a monitor computes beside a busy run: of a core, while a run writes one line after another.

The real program on a terminal of 80 by 24, following a run that writes a line every 6, 40, 200 and
1000 ms, its state twice a second. Unlike the time of the run's steps, this means something on a
busy machine too. Ten monitors compute ten times as much.

    python -m benchmarks monitor_cpu [--quick]
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.monitor_attach import Crowd
from benchmarks.record import Hold, Result, Row, run_alone
from shared.run_writer import RunWriter

GAPS = (0.006, 0.04, 0.2, 1.0)  # seconds between two lines
MOST = 0.04  # of a core
SETTLED, COUNTED = 4.0, 12.0  # seconds


def share_of_a_core(gap: float, seconds: float) -> float:
    """What a monitor uses of a core beside a run that writes a line every `gap` seconds."""
    with contextlib.ExitStack() as stack:
        runs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        over = threading.Event()
        writer = stack.enter_context(RunWriter(runs, name="busy", max_steps=10**7))

        def write() -> None:
            step = 0
            while not over.wait(gap):
                step += 1
                writer.log(step, loss=5 / step, gradient_norm=0.5, step_time_ms=1e3 * gap)

        thread = threading.Thread(target=write)
        thread.start()
        stack.callback(thread.join)
        stack.callback(over.set)
        crowd = Crowd(runs, None, 1)
        stack.callback(crowd.close)
        crowd.gather(1)
        time.sleep(SETTLED)
        before, began = crowd.gather(1), time.perf_counter()
        time.sleep(seconds)
        return (crowd.gather(1) - before) / (time.perf_counter() - began)


def measure(*, quick: bool = False) -> Result:
    """Of a core, for each gap."""
    shares = {gap: share_of_a_core(gap, COUNTED / 3 if quick else COUNTED) for gap in GAPS}
    rows = [
        Row(f"a line every {1e3 * gap:.0f} ms: of a core", 1e2 * share, "%")
        for gap, share in shares.items()
    ]
    dearest = max(shares.values())
    hold = Hold(f"a monitor uses ≤ {MOST:.0%} of a core", f"{dearest:.1%}", dearest <= MOST)
    return Result(rows, [hold])


if __name__ == "__main__":
    sys.exit(run_alone(__doc__, measure))
