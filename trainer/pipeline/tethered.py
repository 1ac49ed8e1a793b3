"""`python -m trainer.pipeline.tethered PID ARGUMENTS…`: the trainer, ended with process PID.

The stages that are not training runs write no record that a later pipeline could adopt. If theirs
dies, they must not go on writing beside the next one.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def tie_to(parent: int) -> None:
    """Let the kernel kill this process when its parent ends; at once if it has ended already."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


if __name__ == "__main__":
    tie_to(int(sys.argv[1]))
    sys.argv = ["trainer", *sys.argv[2:]]
    runpy.run_module("trainer", run_name="__main__", alter_sys=True)
