"""`trainer status`: what every run is doing now, as a table or as JSON."""

from __future__ import annotations

import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.text import format_count, format_duration, format_time, one_line
from trainer.cli import options
from trainer.cli.output import loss_cell, print_json, shorten
from trainer.cli.runs.place import all_runs

if TYPE_CHECKING:
    from shared.control.daemons import DaemonView
    from shared.json_text import Json
    from shared.ownership.health import Health
    from shared.run.directory import RunDirectory
    from shared.run.records import RunState

#: Columns to drop on a narrow terminal, in this order.
_DISPENSABLE = ("try", "MFU", "trained", "best", "where", "tok/s", "ETA", "loss", "steps")
_RIGHT = frozenset({"steps", "loss", "best", "tok/s", "MFU", "ETA", "trained", "try"})
_LEAST_NOTE = 28  # characters a note gets before columns are dropped


@dataclass(frozen=True)
class Row:
    """One run and what daemons know about it."""

    run: RunDirectory
    state: RunState
    health: Health
    care: Json | None = None
    queued_behind: int | None = None
    #: Where it is, if on another host.
    address: str = ""

    @property
    def note(self) -> str:
        """What a person should know besides the numbers."""
        from shared.control.daemons import next_start_of

        parts = []
        if self.care is not None and self.care.get("status") == "waiting":
            start = next_start_of(self.care)
            left = "soon" if start is None else f"in {max(0.0, start - time.time()):.0f} s"
            restarts, most = self.care.get("restarts"), self.care.get("max_restarts")
            count = f" ({restarts} of {most})" if restarts else ""
            parts.append(f"restart {left}{count}")
            parts.append(str(self.care.get("reason") or ""))
        elif self.care is not None and self.care.get("status") == "starting":
            parts.append("starting")
        if self.queued_behind is not None:
            behind = f" behind {self.queued_behind}" if self.queued_behind else ", next"
            parts.append(f"queued{behind}")
        if self.health.alarm:
            parts.append(f"ALARM: {self.health.alarm}")
        if self.health.status == "running" and self.state.patience and not self.health.alarm:
            worse = self.state.evaluations_without_improvement
            if worse:
                parts.append(f"no better in {worse} of {self.state.patience} evaluations")
        if not parts or not parts[0]:
            parts = [self.health.reason]
        return one_line("; ".join(p for p in parts if p), 300)

    @property
    def where(self) -> str:
        """Host and GPU."""
        gpu = self.care.get("gpu") if self.care is not None else None
        device = f"GPU {gpu}" if gpu is not None else self.state.device.partition(" ")[0]
        return one_line(" ".join(p for p in (self.state.host, device) if p), 40)

    def cells(self) -> dict[str, str]:
        """The columns of the table."""
        state, alive = self.state, self.health.alive
        percent = f" {100 * state.current_step / state.max_steps:.0f}%" if state.max_steps else ""
        rate = state.tokens_per_second if alive else None
        return {
            "run": one_line(self.run.run_id, 60),
            "status": one_line(self.health.status, 12),
            "steps": f"{state.current_step}/{state.max_steps or '?'}{percent}",
            "loss": loss_cell(state.current_loss),
            "best": loss_cell(state.best_loss),
            "tok/s": format_count(rate) if rate is not None else "-",
            "MFU": f"{state.mfu:.1%}" if alive and state.mfu is not None else "-",
            "ETA": format_duration(state.eta_seconds) if alive else "-",
            "trained": format_duration(state.time_trained),
            "try": str(state.attempt or "-"),
            "where": self.where or "-",
            "note": self.note,
        }

    def record(self) -> Json:
        """Everything, for JSON."""
        state = self.state
        return {
            **state.to_json(),
            "run_id": self.run.run_id,
            "path": self.address or str(self.run.path.resolve()),
            "recorded_status": state.status,
            "status": self.health.status,
            "alive": self.health.alive,
            "alarm": self.health.alarm,
            "reason": self.health.reason,
            "step": state.current_step,
            "loss": state.current_loss,
            "trained_seconds": state.time_trained,
            "eta_seconds": state.eta_seconds if self.health.alive else None,
            "care": self.care,
            "queued_behind": self.queued_behind,
            "note": self.note,
        }


def status(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [ssh://HOST/DIR]...",
            help="Only this run: id, name or path, or latest; runs of other hosts, through ssh.",
        ),
    ] = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    json: options.Json = False,
) -> int:
    """List the runs with their status, progress, loss and speed."""
    from shared.control.daemons import find_daemons
    from shared.errors import UserError
    from shared.run.finding import find_run

    if any(word.lower().startswith("ssh:/") for word in (str(runs_dir), *(words or ()))):
        return _status_elsewhere(words or [], runs_dir, json=json)
    if words and len(words) > 1:
        raise UserError(
            f"{one_line(words[1], 60)!r} is one run too many; give one RUN, or none for all."
        )
    run = words[0] if words else None
    if run is None:
        runs = all_runs(runs_dir)
    else:
        runs = [find_run(runs_dir, run)]
        runs_dir = runs[0].path.parent
    daemons = find_daemons(runs_dir)
    rows = look(runs, runs_dir, daemons)
    if json:
        print_json([row.record() for row in rows])
        return 0
    return _print(rows, daemon_lines(daemons, runs_dir), str(runs_dir))


def _status_elsewhere(words: list[str], runs_dir: Path, *, json: bool) -> int:
    from shared.errors import UserError
    from trainer.cli.runs.elsewhere import look_elsewhere, split

    named, others = split(words, runs_dir)
    if len(others) > 1:
        raise UserError(
            f"{one_line(others[1], 60)!r} is one run too many; give one RUN, or none for all."
        )
    rows, lines = look_elsewhere(named, others[0] if others else None)
    if json:
        print_json([row.record() for row in rows])
        return 0
    return _print(rows, lines, one_line(" ".join(named), 300))


def _print(rows: list[Row], lines: list[str], where: str) -> int:
    """A line for each daemon, and the table."""
    for line in lines:
        typer.echo(line)
    if not rows:
        typer.echo(f"{where} holds no runs yet; start one with trainer train.")
        return 0
    width = shutil.get_terminal_size((100, 24)).columns
    for line in format_table([row.cells() for row in rows], max(width, 40)):
        typer.echo(line)
    return 0


def look(runs: list[RunDirectory], runs_dir: Path, daemons: list[DaemonView]) -> list[Row]:
    """Each run as it is now."""
    from shared.control.daemons import care_of
    from shared.ownership.standing import standing
    from trainer.launch.queue import queue_of

    found = [(run, *standing(run)) for run in runs]
    queue = queue_of(runs_dir) if any(s.status == "queued" for _, s, _ in found) else []
    place = {run_id: index for index, run_id in enumerate(queue)}
    return [
        Row(
            run,
            state,
            health,
            care := care_of(daemons, run.run_id),
            place.get(run.run_id) if care is None else None,
        )
        for run, state, health in found
    ]


def daemon_lines(daemons: list[DaemonView], runs_dir: Path) -> list[str]:
    """One line per running daemon, or one that says there is none."""
    from shared.ownership.process import host_name

    lines = []
    for daemon in daemons:
        if not daemon.alive:
            continue
        lines.append(daemon_line(daemon, " (this host)" if daemon.host == host_name() else ""))
    if lines:
        return lines
    place = "" if runs_dir == options.RUNS_DIR else f" --runs-dir {shlex.quote(one_line(runs_dir))}"
    return [f"no daemon: crashed runs are not restarted; start one with trainer daemon{place}"]


def daemon_line(daemon: DaemonView, remark: str) -> str:
    """What a running daemon does; `remark` follows its host."""
    most = daemon.limits.get("max_runs", "?")
    gpus = f", {len(daemon.gpus)} GPUs" if daemon.gpus else ""
    queued = f", {len(daemon.queue)} queued" if daemon.queue else ""
    return (
        f"daemon on {one_line(daemon.host)}{remark}: process {daemon.pid} since "
        f"{format_time(daemon.since, '%m-%d %H:%M')}, {len(daemon.runs)} of {most} runs"
        f"{gpus}{queued}"
    )


def format_table(rows: list[dict[str, str]], width: int) -> list[str]:
    """`rows` under their headings, in lines of at most `width` characters.

    On a narrow terminal the least important columns are dropped and long cells are cut.
    """
    columns = [c for c in rows[0] if c == "note" or any(row[c] != "-" for row in rows)]
    noted = any(row["note"] for row in rows)
    if not noted:
        columns.remove("note")
    sizes = {c: max(len(c), *(len(row[c]) for row in rows)) for c in columns}
    least = min(sizes["note"], _LEAST_NOTE) if noted else 0

    def room() -> int:
        """Characters left for the note, with two spaces between columns."""
        fixed = [sizes[c] for c in columns if c != "note"]
        return width - sum(fixed) - 2 * (len(columns) - 1)

    for dispensable in _DISPENSABLE:
        if room() >= least:
            break
        if dispensable in columns:
            columns.remove(dispensable)
    if room() < least:
        sizes["run"] = max(8, sizes["run"] - (least - room()))
    if noted:
        sizes["note"] = max(0, room())
    lines = [_line({c: c for c in columns}, columns, sizes)]
    return lines + [_line(row, columns, sizes) for row in rows]


def _line(row: dict[str, str], columns: list[str], sizes: dict[str, int]) -> str:
    cells = []
    for column in columns:
        size = sizes[column]
        text = shorten(row[column], size)
        cells.append(text.rjust(size) if column in _RIGHT else text.ljust(size))
    return "  ".join(cells).rstrip()
