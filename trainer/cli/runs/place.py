"""Which runs a command means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.run.directory import RunDirectory


def runs_meant(references: Sequence[str], runs_dir: Path) -> list[RunDirectory]:
    """The runs that `references` name, each once. Raises UserError."""
    from shared.errors import UserError
    from shared.run.finding import find_run, same_place
    from shared.text import one_line

    found: dict[Path, RunDirectory] = {}
    for reference in references:
        run = find_run(runs_dir, reference)
        if Path(reference).is_symlink() and same_place(Path(reference), run.path):
            target = one_line(Path(reference).resolve())
            raise UserError(f"{one_line(reference)} is a link; give its target, {target}.")
        found.setdefault(run.path.resolve(), run)
    return list(found.values())


def all_runs(runs_dir: Path) -> list[RunDirectory]:
    """Every run of a runs directory. Raises UserError when it cannot be read."""
    from shared.errors import UserError
    from shared.run.directory import discover_runs
    from shared.text import one_line

    try:
        return discover_runs(runs_dir)
    except OSError as error:
        raise UserError(
            f"Cannot read {one_line(runs_dir)}: {error.strerror}; name your runs folder with "
            "--runs-dir."
        ) from error
