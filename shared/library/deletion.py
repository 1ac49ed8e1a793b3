"""What deleting a run would remove, and reasons why it cannot be deleted."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shared.checkpoints.bases import ADAPTERS, REFERENCE, START, Need, listed, needs_of
from shared.checkpoints.catalogue import CheckpointInfo, list_checkpoints
from shared.checkpoints.trash import folder_size, freed_bytes
from shared.control.daemons import care_of, watching
from shared.ownership.health import STALLED_AFTER, observe
from shared.ownership.lock import read_holder
from shared.ownership.standing import standing_of
from shared.run.directory import RunDirectory
from shared.run.record_lines import read_records
from shared.run.records import ACTIVE_STATUSES, RunState
from shared.text import format_bytes, one_line, plural

#: What becomes of a run that needs the checkpoints of a deleted one.
_LOST = {
    ADAPTERS: "the adapters in {} need its checkpoints and will not load",
    REFERENCE: "{} cannot be resumed without its checkpoints, which are the reference",
    START: "{} cannot start without its checkpoints",
}


@dataclass(frozen=True)
class DoomedRun:
    """A run to delete. `bytes` is what emptying the trash would free.

    `newest` is its last complete checkpoint, `uploaded` the last place where one was published,
    `outside` a checkpoints folder elsewhere, which stays. `needed_by` is what
    other runs need of its checkpoints. `refusal` says why it cannot be deleted.
    """

    run: RunDirectory
    files: int
    bytes: int
    status: str
    step: int
    checkpoints: int = 0
    newest: CheckpointInfo | None = None
    uploaded: str = ""
    outside: Path | None = None
    needed_by: tuple[Need, ...] = ()
    refusal: str = ""

    def describe(self) -> list[str]:
        """The preview, as lines for a person."""
        size = f"{plural(self.files, 'file')}, {format_bytes(self.bytes)}"
        lines = [f"{one_line(self.run.run_id)}: {self.status}, step {self.step:,}; {size}"]
        if self.newest is not None:
            count = plural(self.checkpoints, "checkpoint")
            lines.append(f"  {count}, the newest {_named(self.newest)}")
            where = f"uploaded to {self.uploaded}" if self.uploaded else "uploaded nowhere"
            lines.append(f"  {where}")
        elif not self.outside:
            lines.append("  no checkpoints")
        if self.outside is not None:
            lines.append(f"  its checkpoints are in {one_line(self.outside)} and stay there")
        for why, words in _LOST.items():
            runs = sorted({need.run.run_id for need in self.needed_by if need.why == why})
            if runs:
                lines.append("  " + words.format(one_line(listed(runs), 400)))
        return lines


def doom_all(runs: Sequence[RunDirectory]) -> list[DoomedRun]:
    """What deleting `runs` together would mean. Changes nothing."""
    together = {run.path.resolve() for run in runs}
    found: list[DoomedRun] = []
    for run in runs:
        outside = run.checkpoints.is_symlink()  # it stays
        needs = [] if outside else needs_of(run)
        left = tuple(need for need in needs if need.run.path.resolve() not in together)
        found.append(replace(doom(run), needed_by=left))
    return found


def doom(run: RunDirectory) -> DoomedRun:
    """What deleting `run` would mean. Changes nothing."""
    known = run.read_state()
    state, health = standing_of(run, known)
    outside = run.checkpoints.resolve() if run.checkpoints.is_symlink() else None
    listed = [] if outside else list_checkpoints(run.checkpoints)
    whole = [info for info in listed if info.whole]
    return DoomedRun(
        run=run,
        files=folder_size(run.path)[0],
        bytes=freed_bytes([run.path]),
        status=one_line(health.status, 20),
        step=state.current_step,
        checkpoints=len(listed),
        newest=whole[-1] if whole else None,
        uploaded=uploaded_to(run, state),
        outside=outside,
        refusal=_refusal(run, known),
    )


def refusal(run: RunDirectory) -> str:
    """Why `run` cannot be deleted now; empty if it can."""
    return _refusal(run, run.read_state())


def _refusal(run: RunDirectory, state: RunState | None) -> str:
    name = one_line(run.run_id)
    stop = f"trainer stop {shlex.quote(name)}"
    if run.path.is_symlink():
        return f"{name} is a link to {one_line(run.path.resolve())}; remove the link by hand."
    state = state or RunState()
    health = observe(run, state)
    if health.alive and state.status not in ACTIVE_STATUSES:
        holder = read_holder(run.lock_path) or "another process"
        return f"{name} is in use by {holder}; try again when that has ended."
    if health.alive:
        process = f" (process {state.pid} on {one_line(state.host)})" if state.pid else ""
        return f"{name} is {one_line(health.status, 20)}{process}; stop it first: {stop}."
    if care_of(watching(run.path.parent), run.run_id) is not None:
        return f"{name} is about to be started by a daemon; stop it first: {stop}."
    if not run.state_path.exists() and _written_lately(run.metrics_path):
        return f"{name} is being written by another program; stop it first."
    return ""


def _written_lately(path: Path) -> bool:
    try:
        return abs(time.time() - path.stat().st_mtime) < STALLED_AFTER
    except OSError:
        return False


def uploaded_to(run: RunDirectory, state: RunState) -> str:
    """Where the run was published last: a URL or a repository; empty if nowhere."""
    for event in reversed(list(read_records(run.events_path))):
        if event.get("event") == "uploaded":
            return one_line(event.get("url") or event.get("repo") or "the Hub")
    return one_line(state.hub_repo or "")


def _named(info: CheckpointInfo) -> str:
    for key, value in (
        ("val reward", info.val_reward),
        ("val loss", info.val_loss),
        ("loss", info.loss),
    ):
        if value is not None:
            return f"{info.name} ({key} {value:.4g})"
    return info.name
