"""The options of every command that opens a model, and opening it as they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli import options

if TYPE_CHECKING:
    from trainer.checkpoint.opening import OpenedModel
    from trainer.distributed.device import Compute

Model = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        "--model",
        metavar="PATH|RUN",
        help="Run, checkpoint, transformers folder, or GGUF file.",
    ),
]
TokenizerOption = Annotated[
    str | None,
    typer.Option("--tokenizer", metavar="FILE|DIR", help="Default: the model's own."),
]
Device = Annotated[str, options.DEVICE]
Dtype = Annotated[str, typer.Option(metavar="fp32|bf16", help="Precision of the matrix products.")]
Temperature = Annotated[float, typer.Option(help="0 is greedy.")]
TopK = Annotated[int, typer.Option(help="Only the k likeliest tokens; 0 for all.")]
TopP = Annotated[float, typer.Option(help="Only the likeliest tokens that reach p.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same text.")]
MaxNewTokens = Annotated[
    int, typer.Option("--max-new-tokens", "--max-tokens", help="Tokens at most.")
]


def check_numbers(
    *, threads: int | None = None, seed: int | None = None, max_new_tokens: int = 1
) -> None:
    """Refuse what can be seen to be wrong before torch is loaded. Raises UserError."""
    from shared.errors import UserError

    if max_new_tokens < 1:
        raise UserError(f"--max-new-tokens is {max_new_tokens}; it must be 1 or more.")
    options.check_threads(threads)
    if seed is not None and not -(2**63) <= seed < 2**63:
        raise UserError(f"--seed is {seed}; it must fit 64 bits.")


def open_asked(
    model: str,
    runs_dir: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    tokenizer: str | None = None,
) -> OpenedModel:
    """The model a person named, in evaluation mode. Raises UserError, RunError."""
    import torch

    from trainer.checkpoint.opening import model_path, open_model
    from trainer.distributed.device import pick_device

    if threads is not None:
        torch.set_num_threads(threads)
    return open_model(model_path(model, runs_dir), pick_device(device), tokenizer=tokenizer)


def compute_asked(opened: OpenedModel, dtype: str) -> Compute:
    """Where the model lies, in the precision a person asked for. Raises UserError."""
    from shared.errors import UserError
    from shared.text import one_line
    from trainer.distributed.device import Compute

    if dtype not in ("fp32", "bf16"):
        raise UserError(f"--dtype {one_line(dtype, 60)!r} is none of fp32, bf16.")
    return Compute(opened.model.device, bf16=dtype == "bf16", compile=False)
