"""Sandboxes for tests, and programs to run in them."""

from __future__ import annotations

import textwrap

import pytest

from trainer.sandbox.interface import Limits, Outcome, Work
from trainer.sandbox.interpreter import python_command, python_readable
from trainer.sandbox.sandbox import Sandbox

#: Small, so that attacks end soon.
TIGHT = Limits(
    cpu_seconds=2, wall_seconds=20, memory_bytes=512 << 20, file_bytes=1 << 20, processes=8
)
# `attempt` says what succeeded, and the last line that all was tried.
_BEFORE = """\
import ctypes, os, signal, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, action):
    try:
        result = action()
    except (OSError, ValueError, MemoryError):
        return
    if result != -1:
        print(name, result)
"""
_END = "all was tried"


def needs(sandbox: Sandbox, *layers: str) -> None:
    """Skip the test if a layer is missing here."""
    for layer in layers:
        if layer not in sandbox.layers.active:
            pytest.skip(f"no {layer}: {sandbox.layers.missing.get(layer, 'turned off')}")


def shell(script: str, **more) -> Work:
    """A shell script as a work."""
    return Work(("/bin/sh", "-c", script), **({"limits": TIGHT} | more))


def python(code: str, *arguments: object, **more) -> Work:
    """Python code as a work."""
    command = (*python_command(), "-c", textwrap.dedent(code), *map(str, arguments))
    return Work(command, **({"limits": TIGHT, "readable": python_readable()} | more))


def attack(code: str, *arguments: object, **more) -> Work:
    """Python code that calls `attempt(name, action)`, where -1 is a failure as an error is."""
    body = f"{_BEFORE}{textwrap.dedent(code)}\nprint({_END!r})\n"
    return python(body, *arguments, **more)


def got(outcome: Outcome) -> list[str]:
    """What succeeded of an attack's attempts."""
    assert outcome.failure is None, outcome.failure
    lines = outcome.stdout.decode().splitlines()
    assert lines and lines[-1] == _END, outcome
    return lines[:-1]
