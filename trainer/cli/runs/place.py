"""Which runs a command means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from shared.run.directory import RunDirectory

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Run id, name, path, or latest.")]
RunsArgument = Annotated[
    list[str], typer.Argument(metavar="RUN…", help="Run ids, names, paths, or latest.")
]


def runs_meant(references: Sequence[str], runs_dir: Path) -> list[RunDirectory]:
    """The runs meant, each once. Raises UserError."""
    from shared.errors import UserError
    from shared.run.directory import find_run
    from shared.text import one_line

    found: dict[Path, RunDirectory] = {}
    for reference in references:
        if reference and Path(reference).is_symlink():
            raise UserError(
                f"{one_line(reference)} is a link; name {one_line(Path(reference).resolve())}."
            )
        run = find_run(runs_dir, reference)
        found.setdefault(run.path.resolve(), run)
    return list(found.values())
