"""A fake `ssh` that runs here what it is told to run there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SSH = """#!/bin/sh
while [ "$1" != "--" ]; do shift; done
shift 2
echo 'Welcome to the machine'
exec 3<&0
setsid /bin/sh -c "$*" <&3 3<&- &
trap 'kill -TERM -$!; exit 143' TERM
wait $!
"""


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """Puts the fake ssh on the path; called with True, the host has train-monitor."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder / "ssh", SSH)
    # `train-monitor` of an environment that runs the tests must not be found unless asked for.
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    program(folder / "python3", f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')

    def install(*, ours: bool) -> Path:
        if ours:
            command = f'exec {sys.executable} -m monitor "$@"'
            text = f"#!/bin/sh\nexport PYTHONPATH={ROOT}\n{command}\n"
            program(folder / "train-monitor", text)
        return folder

    assert os.environ["PATH"].startswith(str(folder))
    return install
