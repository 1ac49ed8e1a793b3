"""`trainer export`: a checkpoint for other programs, as GGUF or as a transformers folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli import options

if TYPE_CHECKING:
    pass


def export(
    *,
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint", "--model", metavar="PATH|RUN", help="Checkpoint, file in one, or run."
        ),
    ],
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    gguf: Annotated[
        Path | None,
        typer.Option("--gguf", "--output", metavar="FILE", help="Write a GGUF file."),
    ] = None,
    quant: Annotated[
        str, typer.Option("--quant", "--type", metavar="TYPE", help="Type of the GGUF's matrices.")
    ] = "F16",
    hf: Annotated[
        Path | None, typer.Option("--hf", metavar="DIR", help="Write a transformers folder.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(metavar="F32|BF16|F16", help="Type of the folder's weights.")
    ] = "F32",
    tokenizer: Annotated[
        str | None, typer.Option(metavar="FILE|DIR", help="Default: the checkpoint's own.")
    ] = None,
    lossy: Annotated[
        bool, typer.Option("--lossy", help="Ternary types also for weights that are not ternary.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> int:
    """Write a model for other programs: GGUF for llama.cpp, a folder for transformers.

    Types are F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0, MXFP4, and for ternary weights TQ1_0
    and TQ2_0. Norms and biases stay F32.
    """
    from shared.errors import UserError
    from shared.text import format_bytes, one_line
    from trainer.cli.checkpoint_place import print_table, progress
    from trainer.formats.gguf_types import find_type

    if gguf is None and hf is None:
        raise UserError("Nothing to write: give --gguf FILE or --hf DIR.")
    chosen = find_type(quant)

    import torch

    from trainer.checkpoint.opening import model_path, open_model
    from trainer.export.gguf_file import check_gguf, write_gguf
    from trainer.export.hf_folder import DTYPES, check_hf_folder, write_hf_folder
    from trainer.export.table import compression, tensor_rows, written_tensors

    if dtype.upper() not in DTYPES:
        raise UserError(f"--dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}.")
    opened = open_model(model_path(checkpoint, runs_dir), torch.device("cpu"), tokenizer=tokenizer)
    plan = None
    if gguf is not None:
        plan, notes = check_gguf(opened, gguf, chosen, force=force, lossy=lossy)
        for note in notes:
            typer.echo(one_line(note, 2000))
    if hf is not None:
        check_hf_folder(opened, hf, dtype.upper(), force=force)
    if gguf is not None and plan is not None:
        with progress(f"writing {gguf.name}", plan.bytes) as advance:
            size = write_gguf(opened, gguf, plan, force=force, advance=advance)
        written = written_tensors(plan)
        print_table(tensor_rows(written), numbers=(1, 4))
        typer.echo(f"{one_line(gguf)}: {format_bytes(size)}, {compression(written)}.")
    if hf is not None:
        files = write_hf_folder(opened, hf, dtype.upper(), force=force)
        print_table([["file", "bytes"], *([name, format_bytes(n)] for name, n in files)], (1,))
        typer.echo(f"{one_line(hf)}: loads with transformers' from_pretrained.")
    return 0
