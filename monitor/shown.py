"""What `--runs-dir` and `--run` ask for: a folder of runs, a run, or a log of another tool."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import UserError

if TYPE_CHECKING:
    from shared.foreign.interface import Found
    from shared.remote.watching import RemoteRuns
    from shared.run.directory import RunDirectory


@dataclass(frozen=True)
class Shown:
    """What is shown: the runs of a folder, or those of another tool in a file, `only`.

    `run` is the one that was asked for, `foreign` the id of another tool's. `folder` is the copy of
    the runs that are `elsewhere`, if so.
    """

    folder: Path
    run: RunDirectory | None = None
    foreign: str | None = None
    only: Sequence[Found] | None = None
    elsewhere: RemoteRuns | None = None

    @property
    def run_id(self) -> str | None:
        """The id of the run that was asked for."""
        return self.run.run_id if self.run else self.foreign


def shown_runs(given: str | None, reference: str | None) -> Shown:
    """What `--runs-dir` and `--run` ask for; the folder may be a run itself, or a log of one."""
    from shared.run.directory import RunDirectory, discover_runs, is_run
    from shared.run.finding import find_run

    file = Path(given) if given else None
    if file is not None and os.path.isfile(file):  # noqa: PTH113  it raises nothing
        return _shown_file(file)
    folder = _readable_folder(given)
    if is_run(RunDirectory(folder)) and not discover_runs(folder):
        folder, reference = folder.resolve().parent, reference or str(folder.resolve())
    if reference is None:
        return Shown(folder)
    try:
        run = find_run(folder, reference)
    except UserError:
        foreign = _foreign_run(folder, reference)
        if foreign is None:
            raise
        return Shown(folder, foreign=foreign)
    return Shown(run.path.parent, run)


def _readable_folder(given: str | None) -> Path:
    from shared.text import one_line

    runs_dir = Path(given or "runs")
    shown = one_line(runs_dir)
    try:
        os.scandir(runs_dir).close()
    except FileNotFoundError as error:
        remedy = (
            "name the folder that holds your runs, or start one with `trainer train`"
            if given
            else "name the folder that holds your runs with --runs-dir"
        )
        raise UserError(f"There is no folder {shown}; {remedy}.") from error
    except NotADirectoryError as error:
        raise UserError(
            f"{shown} is a file; --runs-dir takes the folder that holds the runs."
        ) from error
    except PermissionError as error:
        raise UserError(
            f"No permission to read {shown}; ask its owner, or choose another --runs-dir."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{shown} cannot be read: {error}; choose another --runs-dir.") from error
    return runs_dir


def _foreign_run(folder: Path, reference: str) -> str | None:
    """The id of another tool's run with that id or name."""
    from monitor.data.foreign_runs import ForeignRuns

    runs = ForeignRuns(folder)
    runs.scan(0.0)
    named = [view for view in runs.views if reference in (view.run_id, view.name)]
    return named[0].run_id if named else None


def _shown_file(file: Path) -> Shown:
    """The runs of another tool in one file. Raises UserError when no format knows it."""
    from shared.foreign.registry import formats
    from shared.foreign.walking import runs_of_file
    from shared.text import one_line

    try:
        found = runs_of_file(file)
    except OSError as error:
        raise UserError(f"{one_line(file)} cannot be read: {error.strerror}.") from error
    if not found:
        known = ", ".join(one.name for one in formats())
        raise UserError(
            f"{one_line(file)} is no log of a known format ({known}); give --runs-dir such a file, "
            "or the folder that holds the runs."
        )
    return Shown(file.parent, only=tuple(found))
