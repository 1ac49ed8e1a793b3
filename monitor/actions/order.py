"""Labels, the trash, and the command that repeats a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from monitor.actions.prune import empty_checkpoint_trash, undo_prune
from monitor.actions.steer import GiveUp
from monitor.data.views import RunView
from shared.checkpoints.trash import TrashSize, in_trash
from shared.errors import UserError
from shared.library.deletion import DoomedRun, doom_all
from shared.library.labels import Labels, change_labels, read_labels
from shared.library.repeat import repeat_command, shell_line
from shared.library.run_trash import (
    empty_run_trash,
    list_trash,
    restore_runs,
    throw_away_runs,
    trash_bytes,
)
from shared.run.directory import RunDirectory
from shared.text import format_bytes, one_line, plural

_TYPEABLE = re.compile(r"[A-Za-z0-9._-]{1,60}")
_ANYWAY = "delete"  # to type where the run's name cannot be typed


# -- labels ------------------------------------------------------------------------------------


def labels_of(view: RunView) -> Labels:
    """The current labels of a run, safe to show."""
    return read_labels(RunDirectory(view.path))


def tags_text(labels: Labels) -> str:
    """The tags as text to edit."""
    return ", ".join(labels.tags)


def set_tags(view: RunView, text: str) -> str:
    """Give the run the tags in `text`, separated by commas, and no others."""
    run = RunDirectory(view.path)
    wanted = [tag.strip() for tag in text.split(",") if tag.strip()]
    kept = {tag.casefold() for tag in wanted}
    before = read_labels(run).tags
    gone = [tag for tag in before if tag.casefold() not in kept]
    # A change of case alone replaces the old tag.
    gone += [old for old in before for new in wanted if old != new and _same(old, new)]
    labels = change_labels(run, add_tags=wanted, remove_tags=gone)
    told = ", ".join(labels.tags)
    return f"{view.label} has the tags {told}." if told else f"{view.label} has no tags."


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def set_note(view: RunView, text: str) -> str:
    """Write a note about the run; an empty one clears it."""
    labels = change_labels(RunDirectory(view.path), note=text)
    return f"{view.label} has a note." if labels.note else f"{view.label} has no note."


def set_name(view: RunView, text: str) -> str:
    """Show the run under another name; an empty one restores its own. The folder keeps its name."""
    labels = change_labels(RunDirectory(view.path), name=text)
    own = one_line(view.path.name, 120)
    if not labels.name:
        return f"{own} is shown under its own name."
    return f"{own} is shown as {labels.name}."


def archive(views: Sequence[RunView], *, archived: bool) -> str:
    """Archive runs, or unarchive them."""
    for view in views:
        change_labels(RunDirectory(view.path), archived=archived)
    what = views[0].label if len(views) == 1 else f"{len(views)} runs"
    return (
        f"{what} {'is' if len(views) == 1 else 'are'} {'archived' if archived else 'unarchived'}."
    )


def repeat_line(view: RunView) -> str:
    """The command that repeats the run, quoted for a shell and safe for a terminal."""
    return shell_line(repeat_command(RunDirectory(view.path)))


# -- deleting ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeletePlan:
    """What deleting runs means, safe to show. `word` has to be typed; `refusal` says why not.

    `bytes` is what emptying the trash would free. `doomed` are the runs, where they are here.
    """

    names: tuple[str, ...]
    files: int
    bytes: int
    lines: tuple[str, ...]
    word: str
    refusal: str = ""
    doomed: tuple[DoomedRun, ...] = ()

    def summary(self) -> str:
        """A one-line summary."""
        what = plural(len(self.names), "run")
        go = "goes" if len(self.names) == 1 else "go"
        size = format_bytes(self.bytes)
        return f"{what} {go} to the trash: {plural(self.files, 'file')}, {size} on disk."


def plan_delete(views: Sequence[RunView]) -> DeletePlan:
    """What deleting `views` means; takes a while for many files."""
    found = tuple(doom_all([RunDirectory(view.path) for view in views]))
    lines = tuple(one_line(line, 300) for item in found for line in item.describe())
    refusal = next((one_line(item.refusal, 400) for item in found if item.refusal), "")
    return DeletePlan(
        tuple(one_line(item.run.run_id, 120) for item in found),
        sum(item.files for item in found),
        sum(item.bytes for item in found),
        lines,
        delete_word(views),
        refusal,
        found,
    )


def delete_word(views: Sequence[RunView]) -> str:
    """What to type to delete them: the name of a single run; otherwise a fixed word."""
    if len(views) == 1 and _TYPEABLE.fullmatch(views[0].name):
        return views[0].name
    return _ANYWAY


def delete(plan: DeletePlan) -> str:
    """Move the runs to the trash. Raises UserError, with nothing moved, if one is refused."""
    throw_away_runs(plan.doomed)
    names = plan.names
    what = names[0] if len(names) == 1 else f"{len(names)} runs"
    is_ = "is" if len(names) == 1 else "are"
    return f"{what} {is_} in the trash ({format_bytes(plan.bytes)}); U restores."


# -- the trash ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrashEntry:
    """Something that can be restored. `run_id` is empty for the checkpoints of a run."""

    run_id: str
    label: str
    thrown_at: float
    bytes: int


@dataclass(frozen=True)
class Trash:
    """The content of the run trash, and of the selected run's checkpoint trash."""

    runs: tuple[TrashEntry, ...] = ()
    freed: int = 0
    checkpoints: TrashSize = field(default_factory=TrashSize)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to restore or delete."""
        return not (self.runs or self.freed or self.checkpoints.checkpoints)


def look_into_trash(runs_dir: Path, view: RunView | None) -> Trash:
    """What can be restored, the latest first. Changes nothing."""
    entries = tuple(
        TrashEntry(item.run_id, one_line(item.run_id, 120), item.time, item.bytes)
        for item in list_trash(runs_dir)
    )
    checkpoints = TrashSize()
    if view is not None:
        checkpoints = in_trash(RunDirectory(view.path).checkpoints.resolve())
    return Trash(entries, trash_bytes(runs_dir) if entries else 0, checkpoints)


def restore(runs_dir: Path, run_id: str) -> str:
    """Restore a run, with a suffix if its name is taken."""
    restored = restore_runs(runs_dir, [run_id])
    name = restored.get(run_id, run_id)
    renamed = f" as {one_line(name, 120)}" if name != run_id else ""
    return f"{one_line(run_id, 120)} is restored{renamed}."


def empty_trash_of_runs(runs_dir: Path) -> str:
    """Permanently delete the runs in the trash."""
    if not list_trash(runs_dir):
        raise UserError("The trash holds no runs.")
    return f"The trash is emptied: {format_bytes(empty_run_trash(runs_dir))} freed."


# -- what a dialog has come to -----------------------------------------------------------------


@dataclass(frozen=True)
class TrashChoice:
    """What to do with the trash; `run_id` names the run to restore."""

    act: Literal["restore_run", "restore_checkpoints", "empty_runs", "empty_checkpoints"]
    run_id: str = ""


def settle_trash(
    runs_dir: Path, view: RunView | None, choice: TrashChoice, give_up: GiveUp | None = None
) -> str:
    """Carry out the choice. Raises UserError if it is not possible."""
    if choice.act == "restore_run":
        return restore(runs_dir, choice.run_id)
    if choice.act == "empty_runs":
        return empty_trash_of_runs(runs_dir)
    if view is None:
        raise UserError("Select a run to restore its checkpoints.")
    act = undo_prune if choice.act == "restore_checkpoints" else empty_checkpoint_trash
    return act(view, give_up)
