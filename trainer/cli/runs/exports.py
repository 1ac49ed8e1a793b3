"""`trainer runs export`, `command` and `diff`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.text import plural
from trainer.cli import options
from trainer.cli.output import print_json, print_table, progress
from trainer.cli.runs.place import runs_meant

if TYPE_CHECKING:
    from shared.run.directory import RunDirectory

_LONG = 64 << 20  # bytes of metrics from which a progress bar is shown


def export(
    run: options.RunArgument,
    *,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A row per step; '-' is standard output."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="All facts about the run on one page."),
    ] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="A chart of the losses.")] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="A chart of the losses.")] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder in DIR with a TensorBoard event file."),
    ] = None,
    wandb_offline: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder in DIR that 'wandb sync' can upload."),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(
            metavar="KEY,KEY",
            help="Metrics for --csv (default: all), --svg and --png (default: the losses).",
        ),
    ] = None,
    smooth: Annotated[
        float,
        typer.Option(
            metavar="WEIGHT",
            min=0.0,
            max=0.999,
            help="Moving average over the curves: 0.9, 0.99; 0: none.",
        ),
    ] = 0.0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> int:
    """Export a run as CSV, text, SVG or PNG, or for TensorBoard or W&B."""
    from shared.errors import UserError
    from shared.export.csv import export_csv
    from shared.export.page import export_text
    from shared.export.picture import export_png, export_svg, run_figure
    from shared.output_file import check_output

    wanted = [path for path in (csv, text, svg, png) if path is not None]
    if not wanted and tensorboard is None and wandb_offline is None:
        raise UserError(
            "Nothing to write: give --csv, --text, --svg, --png, --tensorboard or --wandb-offline."
        )
    chosen = [key.strip() for key in keys.split(",") if key.strip()] if keys is not None else None
    if chosen == []:
        raise UserError(f"--keys {keys!r} names no metric.")
    (found,) = runs_meant([run], runs_dir)
    for path in wanted:  # fail before anything is written
        check_output(path, force=force)
    logs = _logs(found, tensorboard, wandb_offline, force=force)
    if csv is not None:
        with _reading(found, csv) as advance:
            table = export_csv(found, csv, chosen, force=force, advance=advance)
        columns = plural(1 + len(table.keys), "column")
        _wrote(csv, table.bytes, f"{plural(table.rows, 'row')}, {columns}")
    if text is not None:
        _wrote(text, export_text(found, text, force=force))
    if svg is not None or png is not None:
        figure = run_figure(found, chosen, smooth=smooth)
        if svg is not None:
            _wrote(svg, export_svg(figure, svg, force=force))
        if png is not None:
            _wrote(png, export_png(figure, png, force=force))
    logs()
    return 0


def _logs(
    run: RunDirectory, tensorboard: Path | None, wandb: Path | None, *, force: bool
) -> Callable[[], None]:
    """What writes the logs of other tools, once all places have been checked. Raises UserError."""
    from shared.export.curves import read_curves, read_facts
    from shared.export.tensorboard import export_tensorboard, tensorboard_target
    from shared.export.wandb import export_wandb, wandb_target

    facts = read_facts(run)
    wanted = [
        (write, target_of(facts, folder, force=force))
        for folder, target_of, write in (
            (tensorboard, tensorboard_target, export_tensorboard),
            (wandb, wandb_target, export_wandb),
        )
        if folder is not None
    ]
    for _, target in wanted:
        target.check()

    def write_all() -> None:
        if not wanted:
            return
        with _reading(run, wanted[0][1].path, passes=1) as advance:
            curves = read_curves(run, advance)
        what = f"{plural(curves.values, 'value')} of {plural(len(curves.keys), 'metric')}"
        for write, target in wanted:
            written = write(facts, curves, target)
            _wrote(written.folder, written.bytes, what)
            for note in written.notes:
                typer.echo(f"note: {note}", err=True)

    return write_all


def _reading(run: RunDirectory, path: Path, passes: int = 2) -> Any:
    """A progress bar for a long log; none if it would get into the data."""
    try:
        size = run.metrics_path.stat().st_size
    except OSError:
        size = 0
    return progress("reading", passes * size, quiet=size < _LONG or str(path) == "-")


def _wrote(path: Path, size: int, what: str = "") -> None:
    from shared.text import format_bytes, one_line

    if str(path) != "-":
        typer.echo(f"wrote {one_line(path)} ({what + ', ' if what else ''}{format_bytes(size)})")


def command(run: options.RunArgument, runs_dir: options.RunsDirOption = options.RUNS_DIR) -> int:
    """Print the command that repeats a run.

    The command trains a new run from the start with the same configuration.
    """
    from shared.errors import RunError
    from shared.hub.names import pinned_name
    from shared.library.repeat import repeat_command, shell_line
    from trainer.config.resolve import flatten, parse_assignment, resolve, to_plain
    from trainer.launch.request import load_layers, new_run

    (found,) = runs_meant([run], runs_dir)
    words = repeat_command(found)
    _, settings, _ = load_layers(str(found.config_path))
    assignments = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    flags = dict(map(parse_assignment, assignments))
    own, again = resolve(settings), new_run({}, settings, flags, preset=False)
    before, after = flatten(to_plain(own)), flatten(to_plain(again))
    changed = [key for key in before if before[key] != after[key] and key not in flags]
    if changed:
        raise RunError(f"The run cannot be repeated exactly: {changed[0]} would differ.")
    typer.echo(shell_line(words))
    for key in flags:
        typer.echo(f"note: {key} is {before[key]} in this run, which keeps it", err=True)
    places = [
        (key, before.get(key)) for key in ("data.path", "data.val_path", "checkpoint.begin_from")
    ]
    places += [("data.sources", source["path"]) for source in before.get("data.sources") or ()]
    for key, place in places:
        on_the_hub = pinned_name(place) is not None
        if place is not None and not on_the_hub and not Path(str(place)).exists():
            typer.echo(f"note: {key} {place} no longer exists", err=True)
    return 0


def diff(
    first: options.RunArgument,
    second: options.RunArgument,
    *,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    json: options.Json = False,
) -> int:
    """Show where the configurations of two runs differ."""
    from shared.errors import UserError
    from shared.run.config import differences, flat_config
    from shared.run.finding import find_run
    from shared.text import one_line

    runs = [find_run(runs_dir, reference) for reference in (first, second)]
    found = []
    for run in runs:
        try:
            found.append(flat_config(run.config_path.read_text("utf-8", "replace")))
        except OSError as error:
            raise UserError(
                f"The configuration of {one_line(run.run_id)} cannot be read: {error.strerror}."
            ) from error
    different = differences(*found)
    if json:
        print_json(different)
        return 0
    names = [one_line(run.run_id) for run in runs]
    if not different:
        typer.echo(f"{names[0]} and {names[1]} have the same configuration")
        return 0
    rows = [("key", *names)]
    rows += [(key, *("-" if v is None else v for v in pair)) for key, pair in different.items()]
    print_table(rows)
    return 0
