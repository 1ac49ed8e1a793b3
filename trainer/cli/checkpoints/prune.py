"""`trainer checkpoints prune`: a rule, a look at what it does, a question, and the trash."""

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
        int | None, typer.Option(metavar="STEPS", help="Keep every STEPS steps: 1000, 2000, …")
    ] = None,
    keep_best: Annotated[
        int | None, typer.Option(metavar="N", help="Keep the best N by validation loss.")
    ] = None,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Remove those a resume from an older one replaced.")
    ] = False,
    corrupt: Annotated[bool, typer.Option("--corrupt", help="Remove the damaged ones.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print files and bytes; touch nothing.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Then empty the trash: there is no way back.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Bring the last pruned ones back.")] = False,
    empty_trash: Annotated[
        bool, typer.Option("--empty-trash", help="Delete what was pruned for good.")
    ] = False,
    yes: options.Yes = False,
) -> int:
    """Throw checkpoints away: those named, and those that no --keep option keeps.

    What latest and best point at, the newest, final, and what a process uses always stay. They go
    into the trash, out of which --undo brings them back until --empty-trash deletes them.
    """
    from shared.checkpoints.prune import Rule, check_what_stays, many, plan_prune, trash_line
    from shared.checkpoints.trash import in_trash
    from shared.errors import UserError
    from shared.text import format_bytes, one_line

    rule = Rule(keep_last, keep_every, keep_best, tuple(names or ()), superseded, corrupt)
    chosen = [word for word, on in (("--undo", undo), ("--empty-trash", empty_trash)) if on]
    if chosen and (rule != Rule() or now or len(chosen) > 1):
        raise UserError(f"{chosen[0]} stands alone: give it without rules, names and --now.")
    if not chosen:
        rule.check()
    if dry_run and (undo or now):
        raise UserError(f"--dry-run and {'--undo' if undo else '--now'} do not go together.")
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
            typer.echo("nothing has to go")
        left = trash_line(in_trash(folder), directory)
        if left:
            typer.echo(left)
        if now and not dry_run:
            typer.echo("the trash was left as it is: --empty-trash empties it")
        return 0
    where = "for good, with all that is in the trash" if now else "into the trash"
    confirm(f"Remove {len(plan.goes)} of {one_line(directory.run_id)} {where}?", yes=yes)
    # What was shown and agreed to, by name: the rule might mean others by then.
    shown = Rule(remove=tuple(item.name for item in plan.goes))
    return _act(directory, {"rule": shown.to_json(), "now": now})


def _show(plan: PrunePlan) -> None:
    from shared.checkpoints.prune import counted
    from shared.text import format_bytes, one_line

    table = [("", "name", "files", "size", "why")]
    for item in plan.goes:
        size = format_bytes(item.bytes)
        table.append(("goes", one_line(item.name, 40), str(item.files), size, item.reason))
    table += [("stays", one_line(kept.name, 40), "", "", kept.reason) for kept in plan.stays]
    print_table(table, numbers=(2, 3))
    shared = "" if plan.freed == plan.bytes else "; the rest is shared with what stays"
    typer.echo(f"{counted(plan)}; {format_bytes(plan.freed)} freed when deleted{shared}")


def _act(run: RunDirectory, arguments: dict[str, Any]) -> int:
    """Prune, undo or empty: here while nobody owns the run, else by asking its owner."""
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
