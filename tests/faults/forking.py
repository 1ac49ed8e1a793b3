"""Trainers started by the hundred: forks of a process that has torch loaded already."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from shared.run.directory import RunDirectory, discover_runs
from tests.waiting import until


class ForkServer:
    """Forks trainers, as many at once as are asked for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._ended: dict[int, int] = {}

    def start(
        self,
        *arguments: str,
        output: str = os.devnull,
        tmpdir: Path | None = None,
        environment: Mapping[str, str] | None = None,
        hooks: str = "",
    ) -> int:
        """Start `trainer ARGUMENTS`, its console going to `output`; returns its pid.

        `tmpdir` is its folder for temporary files; `hooks` is `MODULE:NAME` of a function that
        makes hooks of a training.
        """
        return self._ask(
            {
                "start": arguments,
                "output": output,
                "tmpdir": str(tmpdir) if tmpdir else None,
                "environment": dict(environment or {}),
                "hooks": hooks,
            }
        )

    def wait(self, pid: int) -> int:
        """The exit code of a started trainer once it has ended, -N when signal N ended it."""
        return os.waitstatus_to_exitcode(self._ask({"wait": pid}))

    def _ask(self, question: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


@contextlib.contextmanager
def fork_server() -> Iterator[ForkServer]:
    """A server, ready to fork; ended on leaving."""
    script = Path(__file__).with_name("fork_server.py")
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield ForkServer(process)
        process.stdin.close()


def wait_until_training(where: Path, pid: int) -> RunDirectory:
    """The run that process `pid` trains, once it makes steps (or has made them all)."""

    def training() -> RunDirectory | None:
        for run in discover_runs(where) if where.is_dir() else ():
            state = run.read_state()
            if state and state.pid == pid and state.status in ("running", "completed"):
                return run
        return None

    return until(training, every=0.002)  # type: ignore[return-value]
