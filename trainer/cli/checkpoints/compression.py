"""`trainer checkpoints compress` and `decompress`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli import options
from trainer.cli.checkpoints.place import (
    NamesArgument,
    named_checkpoints,
    owned,
    run_meant,
)
from trainer.cli.output import progress

if TYPE_CHECKING:
    from shared.checkpoints.catalogue import CheckpointInfo
    from shared.checkpoints.compression import Packed


def compress(
    run: options.RunArgument,
    names: NamesArgument = None,
    *,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    level: Annotated[
        int, typer.Option(help="zstd level, 1 to 19; weights gain nothing above 1.")
    ] = 1,
    threads: options.Threads = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be compressed; change nothing.")
    ] = False,
) -> int:
    """Compress checkpoints without loss; every trainer command reads them as they are.

    Without names: all but latest, final, and those in use. Other programs, such as transformers,
    cannot read compressed checkpoints; see decompress.
    """
    from shared.checkpoints.compression import pack_checkpoint
    from shared.checkpoints.packed_file import LEVELS

    options.check_range("--level", level, LEVELS[0], LEVELS[-1])
    options.check_threads(threads)

    def pack(info: CheckpointInfo, advance: Callable[[int], None]) -> Packed:
        return pack_checkpoint(info.path, level=level, threads=threads, advance=advance)

    return _repack(run, runs_dir, names, pack, verb="pack", dry_run=dry_run)


def decompress(
    run: options.RunArgument,
    names: NamesArgument = None,
    *,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    threads: options.Threads = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be decompressed; change nothing.")
    ] = False,
) -> int:
    """Decompress checkpoints: those named, or all."""
    from shared.checkpoints.compression import unpack_checkpoint

    options.check_threads(threads)

    def unpack(info: CheckpointInfo, advance: Callable[[int], None]) -> Packed:
        return unpack_checkpoint(info.path, threads=threads, advance=advance)

    return _repack(run, runs_dir, names, unpack, verb="unpack", dry_run=dry_run)


def _repack(
    reference: str,
    runs_dir: Path,
    names: Sequence[str] | None,
    work: Callable[[CheckpointInfo, Callable[[int], None]], Packed],
    *,
    verb: str,
    dry_run: bool,
) -> int:
    """Pack or unpack the checkpoints one after another; returns 1 when one failed."""
    from shared.checkpoints.compression import choose, work_bytes
    from shared.errors import ExitCode, RunError, UserError
    from shared.text import format_bytes, one_line

    run = run_meant(reference, runs_dir)
    folder = run.checkpoints.resolve()
    explicit = [info.name for info in named_checkpoints(folder, names)] if names else []
    chosen, left = choose(folder, explicit, unpack=verb == "unpack")
    for item in left:
        typer.echo(f"{one_line(item.name)}: not changed: {item.reason}")
    failed = any(item.refused for item in left)
    if not chosen:
        typer.echo(f"nothing to {verb}")
    if dry_run or not chosen:
        for info in chosen:
            typer.echo(f"{info.name}: {format_bytes(info.bytes)} to {verb}")
        return ExitCode.FAILURE if failed else ExitCode.OK
    before = after = 0
    with contextlib.ExitStack() as stack:
        idle = stack.enter_context(owned(run))
        if idle is None:
            raise UserError(
                f"Run {one_line(run.run_id)} has a live process, whose checkpoints must not be "
                f"{verb}ed; wait until it has ended, or stop it."
            )
        total = sum(work_bytes(info) for info in chosen)
        advance = stack.enter_context(progress(f"{verb}ing", total))
        for info in chosen:
            try:
                done = work(info, advance)
            except (UserError, RunError) as error:
                typer.echo(f"trainer: {info.name}: {one_line(error, 400)}", err=True)
                failed = True
                continue
            before, after = before + done.bytes_before, after + done.bytes_after
            if done.bytes_before == done.bytes_after:
                typer.echo(f"{info.name}: not changed: compressing it saves nothing")
                continue
            fields = {"bytes_before": done.bytes_before, "bytes_after": done.bytes_after}
            idle.event(f"checkpoint_{'compressed' if verb == 'pack' else 'decompressed'}",
                 name=info.name, **fields)  # fmt: skip
            typer.echo(
                f"{info.name}: {format_bytes(done.bytes_before)} to "
                f"{format_bytes(done.bytes_after)}"
            )
    if before > after:
        share = 100 * (1 - after / before)
        typer.echo(f"{format_bytes(before - after)} less, {share:.0f} %")
    return ExitCode.FAILURE if failed else ExitCode.OK
