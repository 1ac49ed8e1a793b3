"""`trainer checkpoints`: list and verify the checkpoints of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from trainer.cli import options
from trainer.cli.checkpoints import compression as checkpoint_packing
from trainer.cli.checkpoints import prune as checkpoint_prune
from trainer.cli.checkpoints.place import (
    NamesArgument,
    PlaceArgument,
    checkpoints_meant,
    named_checkpoints,
)
from trainer.cli.help import command_group
from trainer.cli.output import loss_cell, print_json, print_table, progress

if TYPE_CHECKING:
    from shared.checkpoints.catalogue import CheckpointInfo

app = command_group("List, verify, prune and compress the checkpoints of a run.")


@app.command("list")
def list_(
    run: PlaceArgument,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    json: options.Json = False,
) -> int:
    """List the checkpoints of a run with step, size, age, losses and state."""
    from shared.checkpoints.catalogue import is_in_use, list_set_aside
    from shared.checkpoints.prune import many
    from shared.checkpoints.trash import folder_size, in_trash
    from shared.text import format_bytes, format_duration, one_line

    folder, names = checkpoints_meant(run, runs_dir)
    corrupt, superseded = list_set_aside(folder)
    rows: list[dict[str, Any]] = [
        {
            "name": info.name,
            "step": info.step,
            "bytes": info.bytes,
            "created_at": info.created_at or None,
            "loss": info.loss,
            "val_loss": info.val_loss,
            "val_reward": info.val_reward,
            "latest": info.is_latest,
            "best": info.is_best,
            "final": info.name == "final",
            "stage_end": info.ends_stage,
            "packed": info.packed,
            "in_use": is_in_use(info.path),
            "corrupt": not info.whole,
            "superseded": False,
        }
        for info in _listed(folder, names)
    ]
    for path in (*corrupt, *superseded):
        if not names:
            rows.append({"name": path.name, "step": None, "bytes": folder_size(path)[1]})
            rows[-1] |= {"corrupt": path in corrupt, "superseded": path in superseded}
            rows[-1]["in_use"] = is_in_use(path)
    if json:
        print_json(rows)
        return 0
    if not rows:
        typer.echo(f"{one_line(folder)} holds no checkpoints yet.")
        return 0
    flags = ("latest", "best", "final", "stage_end", "packed", "in_use", "corrupt", "superseded")
    now = time.time()
    rewarded = any(row.get("val_reward") is not None for row in rows)
    measured = "val reward" if rewarded else "val loss"
    table = [("name", "step", "size", "age", "loss", measured, "")]
    for row in rows:
        made = row.get("created_at")
        table.append(
            (
                one_line(row["name"], 40),
                "-" if row["step"] is None else str(row["step"]),
                format_bytes(row["bytes"]),
                format_duration(max(0.0, now - made)) if made else "-",
                loss_cell(row.get("loss")),
                loss_cell(row.get(measured.replace(" ", "_"))),
                ", ".join(flag.replace("_", " ") for flag in flags if row.get(flag)),
            )
        )
    print_table(table, numbers=(1, 2, 3, 4, 5))
    trash = in_trash(folder)
    if trash.checkpoints or trash.bytes:
        typer.echo(f"in the trash: {many(trash.checkpoints)}, {format_bytes(trash.bytes)}")
    return 0


def _listed(folder: Path, names: Sequence[str]) -> list[CheckpointInfo]:
    from shared.checkpoints.catalogue import list_checkpoints

    return [info for info in list_checkpoints(folder) if not names or info.name in names]


@app.command()
def verify(
    run: PlaceArgument,
    names: NamesArgument = None,
    *,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    json: options.Json = False,
) -> int:
    """Check every file of the checkpoints against its checksum.

    The exit code is 1 if a checkpoint is damaged.
    """
    from shared.checkpoints.catalogue import in_use
    from shared.checkpoints.manifest import verify_folder
    from shared.errors import ExitCode
    from shared.text import format_bytes, one_line

    folder, one = checkpoints_meant(run, runs_dir)
    chosen = named_checkpoints(folder, [*one, *(names or [])])
    problems: dict[str, list[str]] = {}
    with progress("verifying", sum(info.bytes for info in chosen), quiet=json) as advance:
        for info in chosen:
            with in_use(info.path):
                problems[info.name] = verify_folder(info.path, advance)
    bad = [name for name, found in problems.items() if found]
    if json:
        print_json(
            [
                {
                    "name": info.name,
                    "step": info.step,
                    "bytes": info.bytes,
                    "packed": info.packed,
                    "ok": not problems[info.name],
                    "problems": problems[info.name],
                }
                for info in chosen
            ]
        )
    else:
        table = [("name", "step", "size", "packed", "")]
        for info in chosen:
            found = problems[info.name]
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            table.append(
                (
                    info.name,
                    str(info.step),
                    format_bytes(info.bytes),
                    "packed" if info.packed else "-",
                    f"{one_line(found[0])}{more}" if found else "ok",
                )
            )
        print_table(table, numbers=(1, 2, 3))
    return ExitCode.FAILURE if bad else ExitCode.OK


# Registered here, so that the help lists them after list and verify.
app.command("prune")(checkpoint_prune.prune)
app.command("compress")(checkpoint_packing.compress)
app.command("decompress")(checkpoint_packing.decompress)
