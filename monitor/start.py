"""Where `train-monitor` begins: Ctrl-C is quiet from here on, while everything else is imported."""

from __future__ import annotations

import signal
import threading


def main() -> int:
    """Run the command; returns its exit code."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from monitor.__main__ import main as run

    return run()
