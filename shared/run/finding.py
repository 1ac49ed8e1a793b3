"""Which run a person means: by id, name, `latest`, the beginning of an id, or path.

A plain word names a run first. `./shakes` and everything else with a slash is a path.
"""

from __future__ import annotations

import os
from pathlib import Path

from shared.errors import UserError
from shared.files import expand_user
from shared.run.directory import RunDirectory, discover_runs, is_run
from shared.run.records import RunState
from shared.text import nearest, one_line, plural

LATEST_RUN = "latest"


def find_run(runs_dir: Path, reference: str) -> RunDirectory:
    """The run that `reference` names. Of several runs with the same name the newest wins.

    Raises UserError if there is none, or when the word names a run and another run's folder here.
    """
    check_reference(reference, "run")
    here = RunDirectory(expand_user(reference))
    if not is_run(here):
        return named_run(runs_dir, reference) or _no_run(runs_dir, reference)
    if is_path(reference):
        return RunDirectory(here.path.resolve())
    named = named_run(runs_dir, reference)
    if named is not None and not same_place(named.path, here.path):
        raise ambiguous(reference, named, f"the run in {shown_path(here.path)}")
    return named or RunDirectory(here.path.resolve())


def check_reference(reference: str, what: str) -> None:
    """Raise UserError for a reference that can name nothing, such as an empty one."""
    if not reference.strip():
        raise UserError(
            f"The {what} is empty; give its name, its path or latest (is a shell variable unset?)."
        )
    if "\0" in reference:
        raise UserError(f"{one_line(reference, 60)!r} is not a name or a path.")


def is_path(reference: str) -> bool:
    """Whether the text can only be a path: `./x`, `a/b`, `..` and `~` are no names."""
    return "/" in reference or reference in (".", "..") or reference.startswith("~")


def named_run(runs_dir: Path, reference: str) -> RunDirectory | None:
    """The run with this id, name or beginning of an id, or the newest for `latest`; else None.

    Raises UserError when the beginning of an id fits several runs.
    """
    try:
        runs = discover_runs(runs_dir)
    except OSError:
        return None
    exact = [r for r in runs if r.run_id == reference]
    if exact:
        return exact[0]
    states = [(r, r.read_state() or RunState()) for r in runs]
    newest_first = sorted(states, key=lambda rs: (rs[1].started_at or 0.0, rs[0].run_id))[::-1]
    if reference == LATEST_RUN and newest_first:
        return newest_first[0][0]
    named = [r for r, s in newest_first if s.run_name == reference]
    if named:
        return named[0]
    begun = [r for r in runs if reference and r.run_id.startswith(reference)]
    if len(begun) > 1:
        shown = ", ".join(one_line(r.run_id) for r in begun[:3])
        raise UserError(
            f"{one_line(reference)!r} could mean {len(begun)} runs ({shown}); "
            "give more of the run id."
        )
    return begun[0] if begun else None


def unknown_run(runs_dir: Path, reference: str) -> UserError:
    """The error for a reference that names nothing, with the nearest name there is."""
    try:
        runs = discover_runs(runs_dir)
    except OSError as error:
        return UserError(
            f"Cannot look for run {one_line(reference)!r} in {one_line(runs_dir)}: "
            f"{error.strerror}; name the folder that holds your runs with --runs-dir."
        )
    names = [state.run_name for run in runs if (state := run.read_state()) and state.run_name]
    hint = one_line(nearest(reference[:200], [r.run_id for r in runs] + names))
    return UserError(
        f"There is no run {one_line(reference)!r} in {one_line(runs_dir)}{hint}; "
        f"it holds {plural(len(runs), 'run')}."
    )


def ambiguous(reference: str, run: RunDirectory, other: str) -> UserError:
    """The error for a word that names a run and something in the current folder."""
    word = one_line(reference, 80)
    return UserError(
        f"{word!r} could be the run {one_line(run.run_id, 120)} or {other}; "
        f"give {one_line(run.run_id, 120)} for the run, or ./{word} for the path."
    )


def same_place(one: Path, other: Path) -> bool:
    """Whether two paths are the same file or folder."""
    try:
        return os.path.samefile(one, other)  # noqa: PTH121  (Path.samefile is the same call)
    except OSError:
        return False


def shown_path(path: Path) -> str:
    """A path for a message; one without a slash gets `./`, so that it reads as a path."""
    text = one_line(path)
    return text if "/" in text else f"./{text}"


def _no_run(runs_dir: Path, reference: str) -> RunDirectory:
    raise unknown_run(runs_dir, reference)
