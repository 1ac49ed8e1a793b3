"""Commands of the trainer, each a process of its own; what has been done is not done again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.experiments import ROOT


@dataclass(frozen=True)
class Done:
    """A command that succeeded: seconds of the processor with all children, and by the clock."""

    arguments: list[str]
    cpu: float
    wall: float


class Commands:
    """Runs commands in `folder`. A stage's files belong into the folder of its name there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("done", "logs"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def run(self, stage: str, arguments: Sequence[str]) -> Done:
        """`trainer ARGUMENTS`, unless this stage was done with the same ones.

        Raises SystemExit with the log's last lines when the command fails.
        """
        record = self.folder / "done" / f"{stage}.json"
        if record.is_file():
            known = Done(**json.loads(record.read_text("utf-8")))
            if known.arguments == list(arguments):
                return known
        record.unlink(missing_ok=True)
        shutil.rmtree(self.folder / stage, ignore_errors=True)
        (self.folder / stage).mkdir()
        print(f"-- {stage}: trainer {' '.join(arguments)}", flush=True)
        done = self._run(stage, list(arguments))
        record.write_text(json.dumps(asdict(done)), "utf-8")
        return done

    def _run(self, stage: str, arguments: list[str]) -> Done:
        path, began = self.folder / "logs" / f"{stage}.log", time.monotonic()
        with path.open("w", encoding="utf-8") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "trainer", *arguments],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            lines = path.read_text("utf-8", "replace").splitlines()[-15:]
            raise SystemExit("\n".join((*lines, f"{stage} ended with {child.returncode}.")))
        return Done(arguments, used.ru_utime + used.ru_stime, time.monotonic() - began)
