"""Pruning checkpoints: a preview, the trash, and undo.

While nobody owns the run this is done here, under its lock; otherwise its owner is asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from monitor.actions.steer import GiveUp, patience_of, sentence
from monitor.data.views import RunView
from shared.checkpoints.catalogue import CheckpointInfo, list_checkpoints
from shared.checkpoints.prune import STAGE_END, PrunePlan, Rule, plan_prune, serve_prune
from shared.checkpoints.trash import TrashSize, folder_size, freed_bytes, in_trash
from shared.control.idle_run import act_or_ask
from shared.errors import RunError, UserError
from shared.run.directory import RunDirectory
from shared.text import format_bytes, one_line, plural

#: Keeps everything: its plan lists all checkpoints and the protected ones.
_KEEP_ALL = 1 << 40


@dataclass(frozen=True)
class CheckpointRow:
    """A checkpoint in the preview, safe to show. `protected`: no rule can prune it."""

    name: str
    files: int
    bytes: int
    val_loss: float | None
    loss: float | None
    goes: bool
    protected: bool
    reason: str


@dataclass(frozen=True)
class PrunePreview:
    """What a rule would do. `problem` says why nothing can be pruned.

    `freed`: bytes the disk wins once the trash is emptied.
    """

    rows: tuple[CheckpointRow, ...]
    freed: int = 0
    trash: TrashSize = field(default_factory=TrashSize)
    problem: str = ""

    @property
    def goes(self) -> tuple[str, ...]:
        """The names of the checkpoints to prune."""
        return tuple(row.name for row in self.rows if row.goes)

    @property
    def files(self) -> int:
        """Files to prune."""
        return sum(row.files for row in self.rows if row.goes)

    @property
    def bytes(self) -> int:
        """Bytes to prune; kept checkpoints may share some."""
        return sum(row.bytes for row in self.rows if row.goes)

    def summary(self) -> str:
        """A one-line summary."""
        if not self.goes:
            return "Nothing to prune."
        frees = f"frees {format_bytes(self.freed)} once the trash is emptied"
        shared = "" if self.freed == self.bytes else "; kept checkpoints share the rest"
        return f"{counted(self)} to prune; {frees}{shared}."

    def trash_line(self) -> str:
        """The content of the trash; empty if there is none."""
        if not self.trash.checkpoints and not self.trash.bytes:
            return ""
        return f"In the trash: {_many(self.trash.checkpoints)}, {format_bytes(self.trash.bytes)}."

    def lines(self) -> list[str]:
        """The whole preview as text."""
        said = [
            f"{'goes ' if r.goes else 'stays'}  {r.name}  {format_bytes(r.bytes)}  {r.reason}"
            for r in self.rows
        ]
        return [*said, self.problem or self.summary(), *filter(None, [self.trash_line()])]


def counted(preview: PrunePreview) -> str:
    """`3 checkpoints (36 files, 1.2 GiB)`."""
    size = f"{plural(preview.files, 'file')}, {format_bytes(preview.bytes)}"
    return f"{_many(len(preview.goes))} ({size})"


def _many(count: int) -> str:
    return plural(count, "checkpoint")


# -- looking -----------------------------------------------------------------------------------


def preview_prune(
    view: RunView, rule: Rule | None = None, spared: Collection[str] = ()
) -> PrunePreview:
    """What `rule` would do to the checkpoints of `view`; without a rule, all of them.

    `spared` are names that stay although the rule does not keep them. Touches nothing. A rule that
    cannot be carried out is a `problem` of the preview.
    Raises UserError when there are no checkpoints at all.
    """
    folder = RunDirectory(view.path).checkpoints.resolve()
    everything = plan_prune(folder, Rule(keep_last=_KEEP_ALL))
    plan, problem = everything, ""
    if rule is not None and rule != Rule():
        try:
            plan = plan_prune(folder, rule)
        except UserError as error:
            problem = _in_words(str(error))
    rows = tuple(
        dataclasses.replace(row, goes=False, reason="kept")
        if row.goes and row.name in spared
        else row
        for row in _rows(plan)
    )
    freed = freed_bytes(folder / row.name for row in rows if row.goes)
    return PrunePreview(rows, freed, in_trash(folder), problem)


def _rows(plan: PrunePlan) -> tuple[CheckpointRow, ...]:
    listed = {info.name: info for info in list_checkpoints(plan.checkpoints)}
    rows = {}
    for item in plan.goes:
        info = listed.get(item.name)
        rows[item.name] = _row(item.name, info, item.files, item.bytes, item.reason, goes=True)
    for kept in plan.stays:
        files, size = folder_size(plan.checkpoints / kept.name)
        row = _row(kept.name, listed.get(kept.name), files, size, kept.reason, goes=False)
        rows[kept.name] = dataclasses.replace(row, protected=kept.protected)
    # By step; then the superseded and corrupt ones.
    ordered = [*(name for name in listed if name in rows), *sorted(set(rows) - set(listed))]
    return tuple(rows[name] for name in ordered)


def _row(
    name: str, info: CheckpointInfo | None, files: int, size: int, reason: str, *, goes: bool
) -> CheckpointRow:
    return CheckpointRow(
        name=name,  # of a known form, otherwise it is not listed
        files=files,
        bytes=size,
        val_loss=info.val_loss if info else None,
        loss=info.loss if info else None,
        goes=goes,
        protected=False,
        reason=_in_words(reason),
    )


def _in_words(reason: str) -> str:
    """A reason without command-line options."""
    if f"among the last {_KEEP_ALL}" in reason or reason == "not selected":
        return STAGE_END if reason.endswith(STAGE_END) else ""
    if reason.startswith("named"):
        reason = f"marked{reason.removeprefix('named')}"
    for option in ("corrupt", "superseded"):
        reason = reason.replace(f"; --{option} removes it", "")
    return one_line(reason.replace("--keep-", "keep ").replace("--", ""), 300)


@dataclass(frozen=True)
class PruneChoice:
    """The chosen action; `names` are the checkpoints to prune."""

    act: Literal["prune", "undo", "empty"]
    names: tuple[str, ...] = ()


# -- doing -------------------------------------------------------------------------------------


def carry_out(view: RunView, choice: PruneChoice, give_up: GiveUp | None = None) -> str:
    """Carry out the choice. Raises UserError or RunError if it is refused."""
    if choice.act == "undo":
        return undo_prune(view, give_up)
    if choice.act == "empty":
        return empty_checkpoint_trash(view, give_up)
    return prune(view, choice.names, give_up)


def prune(view: RunView, names: Sequence[str], give_up: GiveUp | None = None) -> str:
    """Move exactly the named checkpoints to the trash.

    What is gone by itself meanwhile is left out. Raises UserError or RunError with nothing removed
    when one of them must stay by now, or what would stay is not sound.
    """
    folder = RunDirectory(view.path).checkpoints.resolve()
    still = tuple(name for name in names if (folder / name).is_dir())
    if not still:
        gone = "that checkpoint is" if len(names) == 1 else "those checkpoints are"
        return f"{view.label}: {gone} gone already; nothing was removed."
    answer = _act(view, {"rule": Rule(remove=still).to_json()}, give_up)
    told, there, _ = answer.partition(", restore with:")  # advice for the command line
    return f"{told}; U restores {'it' if len(still) == 1 else 'them'}." if there else answer


def undo_prune(view: RunView, give_up: GiveUp | None = None) -> str:
    """Restore the checkpoints pruned last."""
    return _act(view, {"undo": True}, give_up)


def empty_checkpoint_trash(view: RunView, give_up: GiveUp | None = None) -> str:
    """Permanently delete the pruned checkpoints."""
    return _act(view, {"empty_trash": True}, give_up)


def _act(view: RunView, arguments: Mapping[str, Any], give_up: GiveUp | None) -> str:
    """Do it here while nobody owns the run, else by asking its owner."""
    run = RunDirectory(view.path)
    try:
        answer = act_or_ask(
            run,
            "prune",
            arguments,
            lambda idle: serve_prune(run, arguments, idle.event),
            label=view.label,
            patience=patience_of(give_up),
        )
    except OSError as error:
        place = one_line(error.filename or run.path)
        raise RunError(f"{place} cannot be changed: {error.strerror}.") from error
    return sentence(view, answer)
