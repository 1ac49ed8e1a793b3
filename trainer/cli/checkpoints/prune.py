"""`trainer checkpoints prune`: apply a rule, show what it removes, ask, use the trash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.cli import options
from trainer.cli.checkpoints.place import (
    NamesArgument,
    run_meant,
    told_unwritable,
)
from trainer.cli.output import confirm, print_table

if TYPE_CHECKING:
    from shared.checkpoints.prune import PrunePlan
    from shared.run.directory import RunDirectory


def prune(
    run: options.RunArgument,
    names: NamesArgument = None,
    *,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    keep_last: Annotated[int | None, typer.Option(metavar="N", help="Keep the newest N.")] = None,
    keep_every: Annotated[
        int | None, typer.Option(metavar="STEPS", help="Keep checkpoints at multiples of STEPS.")
    ] = None,
    keep_best: Annotated[
        int | None, typer.Option(metavar="N", help="Keep the best N by validation loss.")
    ] = None,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Remove checkpoints that a resume set aside.")
    ] = False,
    corrupt: Annotated[bool, typer.Option("--corrupt", help="Remove damaged checkpoints.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print files and sizes; change nothing.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Delete permanently: empty the trash afterwards.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Restore what the last prune removed.")
    ] = False,
    empty_trash: Annotated[
        bool, typer.Option("--empty-trash", help="Delete pruned checkpoints permanently.")
    ] = False,
    yes: options.Yes = False,
) -> int:
    """Remove checkpoints: those named, and those that no --keep option keeps.

    The latest, best, newest and final checkpoints and those in use always stay. The last checkpoint
    before the model grew goes only if it is named. Removed checkpoints
    go to the trash, from which --undo restores them until it is emptied.
    """
    from shared.checkpoints.prune import Rule, check_what_stays, many, plan_prune, trash_line
    from shared.checkpoints.trash import in_trash
    from shared.errors import UserError
    from shared.text import format_bytes, one_line

    rule = Rule(keep_last, keep_every, keep_best, tuple(names or ()), superseded, corrupt)
    chosen = [word for word, on in (("--undo", undo), ("--empty-trash", empty_trash)) if on]
    if chosen and (rule != Rule() or now or len(chosen) > 1):
        raise UserError(f"{chosen[0]} cannot be combined with rules, names or --now.")
    if not chosen:
        rule.check()
    if dry_run and (undo or now):
        raise UserError(f"--dry-run and {'--undo' if undo else '--now'} cannot be combined.")
    directory = run_meant(run, runs_dir)
    folder = directory.checkpoints.resolve()
    if undo:
        return _act(directory, {"undo": True})
    if empty_trash:
        size = in_trash(folder)
        if dry_run:
            typer.echo(f"{many(size.checkpoints)} in the trash, {format_bytes(size.bytes)} to free")
            return 0
        confirm(f"Delete {format_bytes(size.bytes)} in the trash permanently?", yes=yes)
        return _act(directory, {"empty_trash": True})
    plan = plan_prune(folder, rule)
    if plan.goes:
        _show(plan)
        check_what_stays(plan)
    if dry_run or not plan.goes:
        if not plan.goes:
            typer.echo("nothing to prune")
        left = trash_line(in_trash(folder), directory)
        if left:
            typer.echo(left)
        if now and not dry_run:
            typer.echo("the trash was not emptied; --empty-trash does that")
        return 0
    where = "permanently, with everything in the trash" if now else "to the trash"
    confirm(f"Remove {len(plan.goes)} of {one_line(directory.run_id)} {where}?", yes=yes)
    # By name, as shown and confirmed: by now the rule might select others.
    shown = Rule(remove=tuple(item.name for item in plan.goes))
    return _act(directory, {"rule": shown.to_json(), "now": now})


def _show(plan: PrunePlan) -> None:
    from shared.checkpoints.prune import counted
    from shared.text import format_bytes, one_line

    table = [("", "name", "files", "size", "why")]
    for item in plan.goes:
        size = format_bytes(item.bytes)
        table.append(("remove", one_line(item.name, 40), str(item.files), size, item.reason))
    table += [("keep", one_line(kept.name, 40), "", "", kept.reason) for kept in plan.stays]
    print_table(table, numbers=(2, 3))
    shared = "" if plan.freed == plan.bytes else "; the rest is shared with kept checkpoints"
    typer.echo(f"{counted(plan)}; {format_bytes(plan.freed)} freed when deleted{shared}")


def _act(run: RunDirectory, arguments: dict[str, Any]) -> int:
    """Prune, undo or empty: here if the run is idle, else by asking its trainer."""
    from shared.checkpoints.prune import serve_prune
    from shared.control.idle_run import act_or_ask
    from shared.errors import RunError

    with told_unwritable(run):
        answer = act_or_ask(
            run, "prune", arguments, lambda idle: serve_prune(run, arguments, idle.event)
        )
    assert answer is not None
    if not answer.ok:
        raise RunError(_as_sentence(answer.message))
    typer.echo(_as_sentence(answer.message))
    return 0


def _as_sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
