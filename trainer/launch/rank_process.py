"""A rank and the launcher of its machine meet in a folder, because torchrun is between them.

torchrun starts all ranks again whatever the exit code of one, and ends with 1 itself. So a rank
that a restart would not help writes its exit code into the folder and ends with 0. A rank that
the launcher did not start has no folder, and its exit code is what it is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ExitCode
from shared.files import read_json, write_json
from shared.ownership.process import ProcessIdentity, identify
from trainer.distributed.world import ONE_PROCESS, World

FOLDER = "TRAINER_RANKS"
LAUNCHER = "launcher.json"


@dataclass(frozen=True)
class RankProcess:
    """This process as the launcher sees it."""

    world: World
    folder: Path | None
    #: torchrun, which started this process.
    parent: int
    launcher: ProcessIdentity | None

    def begin(self) -> None:
        """Tell the launcher whom to pass signals on to."""
        if self.folder is not None:
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # torchrun was started without it
            write_json(self._file, {"pid": os.getpid(), "code": None})

    def end(self, code: int) -> int:
        """Tell the launcher the exit code; returns the one for torchrun."""
        if self.folder is None:
            return code
        if self.launcher is not None and not self.launcher.is_alive():
            shutil.rmtree(self.folder, ignore_errors=True)  # nobody else would
        else:
            with contextlib.suppress(OSError):
                write_json(self._file, {"pid": os.getpid(), "code": code})
        return 0 if code in (ExitCode.USAGE, ExitCode.REQUEUE) else code

    def is_lost(self) -> bool:
        """Whether torchrun or the launcher is gone, so that nobody would end this process."""
        if os.getppid() != self.parent:
            return True
        return self.launcher is not None and not self.launcher.is_alive()

    @property
    def _file(self) -> Path:
        assert self.folder is not None
        return self.folder / f"rank_{self.world.local_rank}.json"


#: A process that trains by itself.
ALONE = RankProcess(ONE_PROCESS, None, 0, None)


def rank_process(world: World, environment: Mapping[str, str]) -> RankProcess:
    """This process, which is one of the ranks of `world`."""
    if world.alone:
        return ALONE
    place = environment.get(FOLDER)
    folder = Path(place) if place else None
    launcher = None
    if folder is not None and (told := read_json(folder / LAUNCHER)):
        with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
            launcher = ProcessIdentity.from_json(told)
    return RankProcess(world, folder, os.getppid(), launcher)


def write_launcher(folder: Path) -> None:
    """Say in the folder who this launcher is."""
    write_json(folder / LAUNCHER, vars(identify(os.getpid())))


def read_ranks(folder: Path) -> dict[int, int | None]:
    """The exit codes of this machine's ranks so far, by their process ids; in order."""
    found: dict[int, int | None] = {}
    for path in sorted(folder.glob("rank_*.json"), key=lambda path: (len(path.name), path.name)):
        told = read_json(path) or {}
        if isinstance(told.get("pid"), int):
            found[told["pid"]] = told.get("code")
    return found
