"""Making a run directory of a run that another tool has written."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.files import fsync_file, replace_file
from shared.foreign.guarded import open_reader
from shared.foreign.interface import ForeignFacts, Found, Reader
from shared.foreign.walking import Walk, runs_of_file
from shared.json_text import Json, encode_line
from shared.run.config import config_text
from shared.run.directory import RunDirectory, create_run
from shared.run.events import EventLog
from shared.run.metrics_log import TIME, MetricsTable
from shared.run.records import ENDED_STATUSES, ExitRecord
from shared.run.state import StateFile
from shared.text import many_lines, one_line

_LISTED = 10  # runs that a message names


@dataclass(frozen=True)
class Imported:
    """A new run directory, with what was read and what was not."""

    run: RunDirectory
    format: str
    records: int
    series: int
    problem: str
    notes: tuple[str, ...]


def run_at(source: Path, chosen: str | None = None) -> Found:
    """The one run of another tool in a file or folder; `chosen` is its name or key where there are
    several. Raises UserError.
    """
    try:
        source.stat()
        found = Walk(source).find() if source.is_dir() else runs_of_file(source)
    except OSError as error:
        raise UserError(f"{one_line(source)} cannot be read: {error.strerror}.") from error
    if not found:
        raise UserError(
            f"{one_line(source)} holds no run of a known format; docs/foreign.md lists them."
        )
    if chosen is not None:
        known = found
        found = [one for one in known if chosen in _names(one, source)]
        if not found:
            raise UserError(f"No run {one_line(chosen)!r} in {one_line(source)}: {_listed(known)}.")
    if len(found) > 1:
        raise UserError(
            f"{one_line(source)} holds {len(found)} runs: {_listed(found)}. "
            "Choose one by its path, or with --run."
        )
    return found[0]


def _names(found: Found, source: Path) -> set[str]:
    names = {found.key, found.name, str(found.path), found.path.name}
    if found.path.is_relative_to(source):
        names.add(found.path.relative_to(source).as_posix())
    return names - {""}


def _listed(found: list[Found]) -> str:
    names = [one_line(one.name or one.key or one.path.name, 60) for one in found[:_LISTED]]
    return ", ".join(names) + (", …" if len(found) > _LISTED else "")


def import_run(
    found: Found,
    runs_dir: Path,
    name: str | None = None,
    *,
    advance: Callable[[float], None] = lambda _: None,
) -> Imported:
    """Write a run directory of `found`, whole or not at all. Raises UserError.

    `advance` is called with the share that was read.
    """
    reader = open_reader(found)
    try:
        while reader.poll():
            advance(reader.share_read)
        if not reader.table.records:
            why = reader.facts.problem or "it holds no metrics with a step"
            raise UserError(f"{one_line(found.path)} cannot be imported: {one_line(why, 500)}.")
        return _written(found, reader, runs_dir, name)
    finally:
        reader.close()


def _written(found: Found, reader: Reader, runs_dir: Path, name: str | None) -> Imported:
    facts, table = reader.facts, reader.table
    shown = name or one_line(facts.name or found.name, 100) or found.path.stem
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".import-", dir=runs_dir))
    except OSError as error:
        raise UserError(
            f"Cannot create a run in {one_line(runs_dir)}: {error.strerror}."
        ) from error
    try:
        run = create_run(place, _usable(shown), facts.started_at)
        records = _write_files(run, found, facts, table, shown)
        moved = _moved(run, runs_dir)
    except OSError as error:
        raise UserError(
            f"The run cannot be written in {one_line(runs_dir)}: {error.strerror}."
        ) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    problem = one_line(facts.problem, 500)
    notes = tuple(one_line(note, 500) for note in facts.notes)
    return Imported(moved, found.format, records, len(table.keys()), problem, notes)


def _usable(name: str) -> str:
    """`name`, or another where no character of it can be in a folder's name."""
    return name if any(c.isascii() and c.isalnum() for c in name) else "imported"


def _moved(run: RunDirectory, runs_dir: Path) -> RunDirectory:
    """Put the finished run where runs are, under a name that is free."""
    for suffix in range(1, 10_000):
        target = runs_dir / (run.run_id if suffix == 1 else f"{run.run_id}_{suffix}")
        if not os.path.lexists(target):
            state = StateFile(run)
            if state.state.run_id != target.name:
                state.update(run_id=target.name)
            run.path.rename(target)
            return RunDirectory(target)
    raise UserError(f"{one_line(runs_dir)} holds too many runs named {run.run_id}.")


def _write_files(
    run: RunDirectory, found: Found, facts: ForeignFacts, table: MetricsTable, name: str
) -> int:
    count = 0
    times: list[float] = []
    with run.metrics_path.open("wb") as file:
        for record in records_of(table):
            file.write(encode_line(record) + b"\n")
            count += 1
            if "time" in record:
                times.append(record["time"])
    fsync_file(run.metrics_path)
    if facts.config:
        config = {one_line(key, 120): _plain(text) for key, text in facts.config.items()}
        replace_file(run.config_path, config_text(config).encode())
    source = one_line(found.path.absolute(), 300)
    if found.key:
        source += f" ({one_line(found.key, 80)})"
    origin = f"imported from {found.format}: {source}"
    told = facts.status in ENDED_STATUSES
    reason = origin if told else f"{origin}; its files do not tell how it ended"
    lines = [origin, *facts.notes, *([facts.problem] if facts.problem else [])]
    replace_file(run.log_path, many_lines("\n".join(map(str, lines))).encode() + b"\n")
    status = facts.status if told else "completed"
    code = 1 if status == "failed" else 0
    state = StateFile(run)
    state.update(
        run_id=run.run_id,
        run_name=one_line(name),
        status=status,
        host=one_line(facts.host, 80),
        attempt=1,
        current_step=max(0, table.facts.front),
        started_at=facts.started_at or (min(times) if times else None),
        updated_at=time.time(),
        ended_at=facts.ended_at or (max(times) if times else None),
        exit=ExitRecord(code, reason, (), final=True),
        **_losses(table),
    )
    events = EventLog(run, state)
    events.append("imported", message=origin)
    events.close()
    return count


def records_of(table: MetricsTable) -> Iterator[Json]:
    """A record of each step, with its own time. Steps that were given up come first, as those of an
    earlier attempt; several values of one step have a record each.
    """
    records: dict[tuple[int, int], Json] = {}
    last: dict[int, int] = {}
    for key in (TIME, *table.keys()):
        series = table.series(key)
        often: dict[int, int] = {}
        for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
            turn = often.get(step, -1) + 1
            often[step] = turn
            records.setdefault((step, turn), {"step": step})[key] = value
            last[step] = max(last.get(step, 0), turn)
    given_up = table.facts.given_up_after
    for attempt in (1, 2) if given_up is not None else (1,):
        for (step, turn), record in sorted(records.items(), key=lambda item: item[0]):
            is_new = given_up is not None and step <= given_up and turn == last[step]
            if (attempt == 2) == is_new:
                yield {**record, "attempt": attempt}


def _losses(table: MetricsTable) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    loss, val_loss = table.series("loss"), table.series("val_loss")
    if len(loss.values):
        found["current_loss"] = float(loss.values[-1])
    if len(val_loss.values):
        found["val_loss"] = float(val_loss.values[-1])
    for key, series in (("val_loss", val_loss), ("loss", loss)):
        finite = [
            (value, step)
            for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True)
            if math.isfinite(value)
        ]
        if finite:
            value, step = min(finite)
            return {**found, "best_loss": value, "best_step": step, "best_metric": key}
    return found


def _plain(text: str) -> Any:
    """A number or a truth value as such, everything else as text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, (int, float, bool)) or value is None else text
