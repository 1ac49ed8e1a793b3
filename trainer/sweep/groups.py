"""The groups of a runs directory: their names, and the runs of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.errors import UserError
from shared.run.directory import RunDirectory, discover_runs, slug
from shared.run.records import RunState
from shared.text import nearest, one_line

MOST_CHARACTERS = 60


@dataclass(frozen=True)
class Grouped:
    """A run of a group."""

    run: RunDirectory
    state: RunState


def find_groups(runs_dir: Path) -> dict[str, list[Grouped]]:
    """The runs of every group, in the order in which they were queued. Raises UserError.

    The runs of a pipeline are stages, whose results are not compared.
    """
    try:
        runs = discover_runs(runs_dir)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(
            f"Cannot read {one_line(runs_dir)}: {error.strerror}; name your runs folder with "
            "--runs-dir."
        ) from error
    found: dict[str, list[Grouped]] = {}
    for run in runs:
        state = run.read_state()
        if state is not None and state.group and not state.stage:
            found.setdefault(state.group, []).append(Grouped(run, state))
    for members in found.values():
        members.sort(key=lambda member: (member.state.started_at or 0.0, member.run.run_id))
    return found


def find_group(runs_dir: Path, name: str) -> list[Grouped]:
    """The runs of a group. Raises UserError for one that is not there, with the nearest ones."""
    groups = find_groups(runs_dir)
    if name in groups:
        return groups[name]
    known = sorted(groups, key=lambda group: _newest(groups, group), reverse=True)
    hint = one_line(nearest(name[:200], known))
    there = ", ".join(one_line(group, MOST_CHARACTERS) for group in known[:5])
    rest = f"; it has {there}{', …' if len(known) > 5 else ''}" if known else ""
    raise UserError(
        f"There is no group {one_line(name, 80)!r} in {one_line(runs_dir)}{hint}{rest}."
    )


def _newest(groups: Mapping[str, list[Grouped]], name: str) -> float:
    return max(member.state.started_at or 0.0 for member in groups[name])


def new_group(name: str | None, base: str, runs_dir: Path) -> str:
    """The name of a new group: `name`, or one made from the name `base` of the configuration.

    Raises UserError for a name that is taken or cannot be one.
    """
    taken = {group.casefold() for group in find_groups(runs_dir)}
    if name is None:
        stem = f"{one_line(base, MOST_CHARACTERS - 12)}-sweep"
        numbered = (stem if i == 1 else f"{stem}-{i}" for i in range(1, len(taken) + 2))
        return next(group for group in numbered if group.casefold() not in taken)
    if one_line(name, MOST_CHARACTERS) != name or name != name.strip():
        raise UserError(
            f"--group {one_line(name, 80)!r} is not a name: use at most {MOST_CHARACTERS} "
            "characters on one line."
        )
    slug(name)
    if name.casefold() in taken:
        raise UserError(
            f"There is a group {name!r} in {one_line(runs_dir)} already; choose another --group, "
            "or see trainer sweep status."
        )
    return name
