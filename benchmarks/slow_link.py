"""In the place of ssh: runs here what is to run there, over a link of a given speed.

    python benchmarks/slow_link.py BITS_PER_SECOND SECONDS COUNT -- HOST COMMAND

Each direction carries so many bits per second, and half of the seconds is on its way. The number of
bytes that arrived from the host is kept in the file COUNT.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time

_PIECE = 8 << 10  # bytes sent at a time


def carry(source: int, sink: int, rate: float, delay: float, count: int | None) -> None:
    """Move bytes until they end; `rate` in bytes per second."""
    on_the_way: queue.Queue[tuple[float, bytes]] = queue.Queue()

    def arrive() -> None:
        total = 0
        while True:
            at, data = on_the_way.get()
            time.sleep(max(0.0, at - time.monotonic()))
            if not data:
                os.close(sink)
                return
            total += len(data)
            if count is not None:
                os.pwrite(count, b"%20d" % total, 0)
            while data:
                data = data[os.write(sink, data) :]

    threading.Thread(target=arrive, daemon=count is None).start()
    sent_at = time.monotonic()
    while True:
        data = os.read(source, _PIECE)
        sent_at = max(sent_at, time.monotonic()) + len(data) / rate
        on_the_way.put((sent_at + delay, data))
        if not data:
            return
        time.sleep(max(0.0, sent_at - time.monotonic()))


def main() -> int:
    """Run as ssh."""
    rate, delay = float(sys.argv[1]) / 8, float(sys.argv[2]) / 2
    count = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT)
    command = sys.argv[sys.argv.index("--") + 2 :]
    child = subprocess.Popen(
        ["sh", "-c", " ".join(command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin and child.stdout
    up = (0, child.stdin.fileno(), rate, delay, None)
    threading.Thread(target=carry, args=up, daemon=True).start()
    carry(child.stdout.fileno(), 1, rate, delay, count)
    return child.wait()


if __name__ == "__main__":
    sys.exit(main())
