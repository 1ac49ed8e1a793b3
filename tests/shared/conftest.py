"""What the tests of the contract share: waiting with a deadline, and real child processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.waiting import until

WaitUntil = Callable[..., Any]
Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def wait_until() -> WaitUntil:
    """Poll a condition until it is truthy."""
    return until


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start `python -c CODE ARGS…` with pipes; whatever still runs at the end is killed."""
    children: list[subprocess.Popen[str]] = []

    def start(code: str, *args: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()
