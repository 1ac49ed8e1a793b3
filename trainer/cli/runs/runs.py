"""`trainer runs`: list, label and delete runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.text import plural
from trainer.cli import options
from trainer.cli.help import command_group
from trainer.cli.output import confirm_word, print_json, print_table, shorten
from trainer.cli.runs import exports as run_exports
from trainer.cli.runs import imports as run_imports
from trainer.cli.runs import plot
from trainer.cli.runs.place import all_runs, runs_meant

if TYPE_CHECKING:
    from shared.library.labels import Labels
    from shared.run.directory import RunDirectory

app = command_group("List, label, compare, export and delete runs.")

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be deleted; change nothing.")
]


# -- labels ------------------------------------------------------------------------------------


@app.command("list")
def list_(
    *,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    tag: Annotated[
        list[str] | None, typer.Option(help="Only runs with this tag; repeatable.")
    ] = None,
    archived: Annotated[bool, typer.Option("--archived", help="List only archived runs.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="List archived runs too.")] = False,
    trash: Annotated[bool, typer.Option("--trash", help="List deleted runs in the trash.")] = False,
    json: options.Json = False,
) -> int:
    """List runs with their names, tags and notes."""
    if trash:
        return _list_trash(runs_dir, json=json)
    rows = [row for row in _rows(runs_dir) if _has_tags(row["tags"], tag or [])]
    hidden = 0
    if not all_:
        kept = [row for row in rows if row["archived"] == archived]
        hidden, rows = len(rows) - len(kept), kept
    if json:
        print_json(rows)
        return 0
    if rows:
        table = [("run", "status", "step", "name", "tags", "note")]
        for row in rows:
            note = row["note"].partition("\n")[0]
            status = row["status"] + (", archived" if row["archived"] and not archived else "")
            cells = (row["run_id"], status, f"{row['step']:,}", row["name"])
            table.append((*cells, ", ".join(row["tags"]), shorten(note, 60)))
        print_table(table, numbers=(2,), drop_empty=True)
    else:
        typer.echo("no runs to list")
    if hidden and not archived:
        typer.echo(f"{hidden} archived; --archived lists them")
    return 0


def _rows(runs_dir: Path) -> list[dict[str, Any]]:
    from shared.library.labels import read_labels
    from shared.ownership.standing import standing
    from shared.text import one_line

    rows = []
    for run in all_runs(runs_dir):
        (state, health), labels = standing(run), read_labels(run)
        rows.append(
            {
                "run_id": one_line(run.run_id, 120),
                "path": one_line(run.path.resolve(), 4096),
                "status": one_line(health.status, 20),
                "step": state.current_step,
                "run_name": one_line(state.run_name, 100),
                **_label_fields(labels),
            }
        )
    return rows


def _label_fields(labels: Labels) -> dict[str, Any]:
    return {
        "name": labels.name,
        "tags": list(labels.tags),
        "note": labels.note,
        "archived": labels.archived,
    }


def _has_tags(tags: Sequence[str], wanted: Sequence[str]) -> bool:
    return {tag.casefold() for tag in wanted} <= {tag.casefold() for tag in tags}


@app.command()
def tag(
    run: options.RunArgument,
    tags: Annotated[list[str] | None, typer.Argument(metavar="TAGS", help="Tags to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Tag to remove; repeatable.")] = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
) -> int:
    """Add tags to a run, or print its tags.

    Works while the run trains.
    """
    from shared.library.labels import change_labels, read_labels

    (found,) = runs_meant([run], runs_dir)
    if tags or remove:
        labels = change_labels(found, add_tags=tags or (), remove_tags=remove or ())
    else:
        labels = read_labels(found)
    typer.echo(", ".join(labels.tags) or "no tags")
    return 0


@app.command()
def note(
    run: options.RunArgument,
    text: Annotated[
        str | None, typer.Argument(help="The note; - reads standard input, '' removes it.")
    ] = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
) -> int:
    """Set the note of a run, or print it."""
    from shared.library.labels import MAX_NOTE, change_labels, read_labels

    (found,) = runs_meant([run], runs_dir)
    if text is None:
        typer.echo(read_labels(found).note or "no note")
        return 0
    if text == "-":
        text = sys.stdin.read(4 * MAX_NOTE)
    labels = change_labels(found, note=text)
    typer.echo("note saved" if labels.note else "note removed")
    return 0


@app.command()
def rename(
    run: options.RunArgument,
    name: Annotated[str, typer.Argument(help="The name to show; '' restores the original.")],
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
) -> int:
    """Show a run under another name.

    Its folder and its id do not change.
    """
    from shared.library.labels import change_labels
    from shared.text import one_line

    (found,) = runs_meant([run], runs_dir)
    labels = change_labels(found, name=name)
    typer.echo(f"{one_line(found.run_id)} is shown as {labels.name or 'its original name'}")
    return 0


@app.command()
def archive(runs: options.RunsArgument, runs_dir: options.RunsDirOption = options.RUNS_DIR) -> int:
    """Hide runs from the list."""
    return _archive(runs_meant(runs, runs_dir), archived=True)


@app.command()
def unarchive(
    runs: options.RunsArgument, runs_dir: options.RunsDirOption = options.RUNS_DIR
) -> int:
    """List archived runs again."""
    return _archive(runs_meant(runs, runs_dir), archived=False)


def _archive(runs: Sequence[RunDirectory], *, archived: bool) -> int:
    from shared.library.labels import change_labels
    from shared.text import one_line

    for run in runs:
        change_labels(run, archived=archived)
        typer.echo(f"{one_line(run.run_id)} is {'archived' if archived else 'listed again'}")
    return 0


# -- the trash ---------------------------------------------------------------------------------


@app.command()
def delete(
    runs: options.RunsArgument,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    dry_run: DryRun = False,
    yes: options.Yes = False,
) -> int:
    """Move runs to the trash.

    Running runs are refused. restore brings runs back until empty-trash deletes them.
    """
    from shared.errors import UserError
    from shared.library.deletion import doom_all
    from shared.library.run_trash import throw_away_runs
    from shared.text import format_bytes, one_line

    doomed = doom_all(runs_meant(runs, runs_dir))
    for item in doomed:
        for line in item.describe():
            typer.echo(line)
    for item in doomed:
        if item.refusal:
            raise UserError(f"{item.refusal} Nothing was deleted.")
    if dry_run:
        return 0
    what = f"{len(doomed)} runs" if len(doomed) > 1 else one_line(doomed[0].run.run_id)
    confirm_word("delete", f"move {what} to the trash", yes=yes)
    throw_away_runs(doomed)
    parent = doomed[0].run.path.parent
    place = "" if parent == options.RUNS_DIR else f" --runs-dir {shlex.quote(one_line(parent))}"
    size = format_bytes(sum(item.bytes for item in doomed))
    typer.echo(f"{what} moved to the trash ({size})")
    typer.echo(f"undo:       trainer runs restore{place}")
    typer.echo(f"free space: trainer runs empty-trash{place}")
    return 0


@app.command()
def restore(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUNS", help="Run ids; default: the last ones deleted."),
    ] = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
) -> int:
    """Bring deleted runs back from the trash."""
    from shared.library.run_trash import restore_runs
    from shared.text import one_line

    for run_id, name in restore_runs(runs_dir, runs or None).items():
        taken = "" if name == run_id else f" as {one_line(name)}, since its old name is taken"
        typer.echo(f"{one_line(run_id)} is back{taken}")
    return 0


@app.command("empty-trash")
def empty_trash(
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    dry_run: DryRun = False,
    yes: options.Yes = False,
) -> int:
    """Delete everything in the trash permanently."""
    from shared.library.run_trash import empty_run_trash, list_trash, trash_bytes
    from shared.text import format_bytes

    count, size = len(list_trash(runs_dir)), trash_bytes(runs_dir)
    if not count and not size:
        typer.echo("the trash is empty")
        return 0
    if not dry_run:
        what = f"{plural(count, 'run')}, {format_bytes(size)},"
        confirm_word("empty", f"delete {what} permanently", yes=yes)
        size = empty_run_trash(runs_dir)
    else:
        _list_trash(runs_dir, json=False)
    typer.echo(f"{format_bytes(size)} {'to free' if dry_run else 'freed'}")
    return 0


def _list_trash(runs_dir: Path, *, json: bool) -> int:
    from shared.library.run_trash import list_trash
    from shared.text import format_bytes, format_time, one_line

    trashed = list_trash(runs_dir)
    if json:
        keys = ("run_id", "time", "files", "bytes")
        print_json([{key: getattr(item, key) for key in keys} for item in trashed])
        return 0
    if not trashed:
        typer.echo("the trash is empty")
        return 0
    table = [("run", "files", "size", "deleted")]
    for item in trashed:
        size = format_bytes(item.bytes)
        cells = (one_line(item.run_id, 120), f"{item.files:,}", size, format_time(item.time))
        table.append(cells)
    print_table(table, numbers=(1, 2), drop_empty=True)
    return 0


# -- other forms -------------------------------------------------------------------------------

app.command("plot")(plot.plot)
app.command("import")(run_imports.import_)
app.command("export")(run_exports.export)
app.command("command")(run_exports.command)
app.command("diff")(run_exports.diff)
