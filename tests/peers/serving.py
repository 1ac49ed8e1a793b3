"""`trainer serve` as a process, for other programs to talk to."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def serving(model: Path, *options: object) -> Iterator[str]:
    """Where it answers for `model`, by the name `peer`."""
    command = ["serve", "--model", model, "--served-name", "peer", "--precision", "fp32"]
    command += ["--port", 0, "--threads", 1, *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.search(r" at (http://\S+) ", line):
                threading.Thread(target=process.stdout.read, daemon=True).start()
                yield found[1]
                break
        else:
            pytest.fail(f"the server did not start:\n{''.join(said)}")
    finally:
        process.kill()
        process.wait()
