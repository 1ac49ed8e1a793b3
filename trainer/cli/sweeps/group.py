"""`trainer sweep status`, `retry` and `stop`: the runs of a group."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import RunError, UserError
from shared.text import one_line, plural
from trainer.cli import options
from trainer.cli.output import print_json, print_table
from trainer.cli.sweeps.view import counts, print_csv, print_results, record_of, told

if TYPE_CHECKING:
    from trainer.sweep.groups import Grouped

GROUP = Annotated[str, typer.Argument(metavar="GROUP", help="Name of the group.")]
#: None means the option given before the subcommand.
SubRunsDir = Annotated[
    Path | None,
    typer.Option("--runs-dir", metavar="DIR", help="Folder that holds the runs; default: runs."),
]
#: What `retry` queues again, and with --stopped.
_FAILED = ("failed", "crashed", "preempted")
_STOPPED = (*_FAILED, "cancelled")


def _members(context: typer.Context, group: str, runs_dir: Path | None) -> list[Grouped]:
    """The runs of a group, after what an interrupted sweep has left is finished."""
    from trainer.sweep.groups import find_group
    from trainer.sweep.queue import finish_interrupted

    place = runs_dir or context.obj
    if not place.is_dir():
        raise UserError(
            f"{one_line(place)} is not a folder; name the one that holds your runs with --runs-dir."
        )
    finish_interrupted(place)
    return find_group(place, group)


# -- status ------------------------------------------------------------------------------------


def status(
    context: typer.Context,
    group: Annotated[
        str | None, typer.Argument(metavar="GROUP", help="Name of the group; default: list all.")
    ] = None,
    *,
    runs_dir: SubRunsDir = None,
    json: options.Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line per run.")] = False,
) -> int:
    """Show the runs of a group, the setting with the lowest validation loss first.

    Without GROUP, the groups are listed.
    """
    from shared.control.daemons import find_daemons
    from trainer.cli.runs.status import look
    from trainer.sweep.results import results_of

    if json and csv:
        raise UserError("--json and --csv are both given; give one of them.")
    place: Path = runs_dir or context.obj
    if group is None:
        return _list_groups(place, json=json, csv=csv)
    members = _members(context, group, runs_dir)
    rows = look([member.run for member in members], place, find_daemons(place))
    by_id = {row.run.run_id: row for row in rows}
    results = results_of(
        group, members, {run_id: row.health.status for run_id, row in by_id.items()}
    )
    if json:
        print_json(record_of(results, by_id))
    elif csv:
        print_csv(results, by_id)
    else:
        print_results(results, by_id)
    return 0


def _list_groups(place: Path, *, json: bool, csv: bool) -> int:
    from shared.ownership.health import observe
    from trainer.sweep.groups import find_groups
    from trainer.sweep.queue import finish_interrupted

    if csv:
        raise UserError("--csv is for the runs of one group: name it.")
    if place.is_dir():
        finish_interrupted(place)
    groups = find_groups(place)
    counted = {
        name: counts([observe(m.run, m.state).status for m in members])
        for name, members in groups.items()
    }
    if json:
        print_json([{"group": name, "statuses": found} for name, found in counted.items()])
    elif not counted:
        typer.echo(f"no sweep in {one_line(place)} yet; queue one with trainer sweep")
    else:
        rows = [("group", "runs", "status")]
        rows += [
            (one_line(name), str(sum(found.values())), told(found))
            for name, found in counted.items()
        ]
        print_table(rows, numbers=(1,))
    return 0


# -- retry and stop ----------------------------------------------------------------------------


def retry(
    context: typer.Context,
    group: GROUP,
    *,
    runs_dir: SubRunsDir = None,
    stopped: Annotated[
        bool, typer.Option("--stopped", help="Also those that were stopped.")
    ] = False,
) -> int:
    """Queue the failed runs of a group again; each resumes from its newest checkpoint."""
    from shared.control.daemons import care_of, watching
    from shared.ownership.health import observe
    from trainer.cli.training.start import show_daemon
    from trainer.launch.queued import launch_queued
    from trainer.launch.request import continue_run

    place: Path = runs_dir or context.obj
    daemons = watching(place)
    failed, cared, left = [], 0, 0
    for member in _members(context, group, runs_dir):
        seen = observe(member.run, member.state).status
        left += seen == "cancelled" and not stopped
        if seen in (_STOPPED if stopped else _FAILED):
            if care_of(daemons, member.run.run_id) is None:
                failed.append(member.run)
            else:
                cared += 1
    problems = 0
    for run in failed:
        try:
            launch_queued(continue_run(run, {}), place)
        except UserError as error:
            problems += 1
            typer.echo(one_line(f"{run.run_id}: {error}", 1000), err=True)
        else:
            typer.echo(f"{one_line(run.run_id)} is queued")
    if cared:
        typer.echo(
            f"{plural(cared, 'failed run')} left to the daemon, which decides about a restart"
        )
    elif not failed:
        typer.echo(f"no run of {one_line(group)} has failed")
    if left:
        typer.echo(f"{plural(left, 'stopped run')} not queued; --stopped queues them too")
    if len(failed) > problems:
        show_daemon(daemons[0] if daemons else None, place)
    if problems:
        raise RunError(f"{plural(problems, 'run')} of {one_line(group)} could not be queued.")
    return 0


def stop(context: typer.Context, group: GROUP, runs_dir: SubRunsDir = None) -> int:
    """Stop the runs of a group: each saves a checkpoint; queued ones leave the queue."""
    from trainer.cli.runs.control import stop_runs

    members = _members(context, group, runs_dir)
    # Queued ones first, or they would start in the place of those that stop.
    members.sort(key=lambda member: member.state.status != "queued")
    return stop_runs([member.run for member in members], named=False)
