"""`trainer status` of runs on other hosts, through ssh."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.control.daemons import DaemonDirectory, DaemonView, care_of
from shared.errors import UserError
from shared.json_text import is_number
from shared.ownership.heartbeat import BeatWatch
from shared.ownership.standing import standing_of
from shared.remote.acting import Wish, carry_out
from shared.remote.address import is_address, parse_address
from shared.remote.watching import remote_runs
from shared.run.finding import find_run
from shared.text import one_line
from trainer.cli.runs.place import all_runs
from trainer.launch.queue import queue_of

if TYPE_CHECKING:
    from shared.remote.watching import Host, RemoteRuns
    from shared.run.directory import RunDirectory
    from trainer.cli.runs.status import Row

_MOST_DAEMONS = 1_000


def split(words: Sequence[str], runs_dir: Path) -> tuple[list[str], list[str]]:
    """The addresses of hosts, and the other words. A path has lost one of the two slashes."""
    given = str(runs_dir)
    named = [f"ssh://{given[5:].lstrip('/')}"] if given.lower().startswith("ssh:/") else []
    named += [word for word in words if is_address(word)]
    return named, [word for word in words if not is_address(word)]


def look_elsewhere(named: Sequence[str], run: str | None) -> tuple[list[Row], list[str]]:
    """The runs of other hosts, or the one that is meant, and a line about each host's daemons.

    Raises UserError when a host cannot be reached, or the run is not there.
    """
    with remote_runs([parse_address(one) for one in named]) as elsewhere:
        elsewhere.catch_up()
        folder = elsewhere.folder
        runs = all_runs(folder) if run is None else [_named(elsewhere, run)]
        daemons = {id(host): _daemons(host) for host in elsewhere.hosts}
        queue = {run_id: place for place, run_id in enumerate(queue_of(folder))}
        rows = [_row(elsewhere, one, daemons, queue) for one in runs]
        lines = [line for host in elsewhere.hosts for line in _lines(host, daemons[id(host)])]
        return rows, lines


def _named(elsewhere: RemoteRuns, run: str) -> RunDirectory:
    try:
        return find_run(elsewhere.folder, run)
    except UserError as error:
        shown = str(error).replace(one_line(elsewhere.folder), elsewhere.shown)
        raise UserError(shown) from error


def _row(
    elsewhere: RemoteRuns,
    run: RunDirectory,
    daemons: dict[int, list[DaemonView] | None],
    queue: dict[str, int],
) -> Row:
    from trainer.cli.runs.status import Row

    known = run.read_state()
    state, health = standing_of(run, known)
    if known is not None:
        health = elsewhere.health(run, known, time.time(), BeatWatch())
    host = elsewhere.host_of(run.run_id)
    name = host.mirror.remote_name(run.run_id) if host else run.run_id
    care = care_of(daemons[id(host)] or [], name) if host else None
    behind = queue.get(run.run_id) if care is None else None
    path = f"{host.address.shown}/{one_line(name)}" if host else ""
    return Row(run, state, health, care, behind, path)


def _daemons(host: Host) -> list[DaemonView] | None:
    """The daemons at work there; None where that cannot be told."""
    if host.why_not("daemons"):
        return None
    told = carry_out(host, Wish("daemons", "", {}, changes=False))
    values = told[:_MOST_DAEMONS] if isinstance(told, list) else []
    return [_daemon(value) for value in values if isinstance(value, dict)]


def _daemon(value: dict[str, Any]) -> DaemonView:
    """A daemon as a host describes it, which may say anything."""
    pid, since = value.get("pid"), value.get("since")
    gpus, limits, runs, queue = (value.get(k) for k in ("gpus", "limits", "runs", "queue"))
    name = one_line(value.get("host") or "?", 80)
    return DaemonView(
        directory=DaemonDirectory(Path(name.replace("/", "_"))),
        host=name,
        alive=True,
        pid=pid if type(pid) is int else 0,
        since=float(since) if is_number(since) else 0.0,  # type: ignore[arg-type]
        limits={k: v for k, v in limits.items() if type(v) is int}
        if isinstance(limits, dict)
        else {},
        gpus=tuple(g for g in gpus if isinstance(g, dict)) if isinstance(gpus, list) else (),
        runs={k: v for k, v in runs.items() if isinstance(v, dict)}
        if isinstance(runs, dict)
        else {},
        queue=tuple(str(x) for x in queue) if isinstance(queue, list) else (),
    )


def _lines(host: Host, daemons: list[DaemonView] | None) -> list[str]:
    from trainer.cli.runs.status import daemon_line

    if daemons is None:
        return [f"daemon on {host.name}: not known. {host.limits}".rstrip()]
    if not daemons:
        return [f"no daemon on {host.name}: crashed runs are not restarted there"]
    return [daemon_line(daemon, "") for daemon in daemons]
