"""The options of every command that opens a model, and how it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli import options

if TYPE_CHECKING:
    from trainer.checkpoint.opening import OpenedModel
    from trainer.distributed.device import Compute

ModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="RUN, RUN:STEP, checkpoint, transformers folder, GGUF file, or OWNER/NAME on the Hub.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--checkpoint", "--model", metavar="MODEL", help="The same, as an option."),
]
TokenizerOption = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="FILE|DIR|OWNER/NAME",
        help="Tokenizer to use; default: the model's own.",
    ),
]
Device = Annotated[str, options.DEVICE]
Dtype = Annotated[str, typer.Option(metavar="fp32|bf16", help="Precision of the matrix products.")]
Temperature = Annotated[float, typer.Option(help="Sampling temperature; 0 is greedy.")]
TopK = Annotated[int, typer.Option(help="Sample from the k most likely tokens; 0: all.")]
TopP = Annotated[float, typer.Option(help="Sample from the most likely tokens that add up to p.")]
Seed = Annotated[
    int | None,
    typer.Option(help="Random seed; the same seed gives the same text. Default: a new one."),
]
MaxNewTokens = Annotated[
    int, typer.Option("--max-new-tokens", "--max-tokens", help="Maximum number of tokens.")
]
MinP = Annotated[
    float,
    typer.Option(
        "--min-p", help="Drop tokens less likely than this share of the likeliest one; 0: none."
    ),
]

Drafts = Annotated[
    bool,
    typer.Option(
        "--drafts/--no-drafts", help="Let extra heads draft tokens; the text is the same."
    ),
]


def model_asked(argument: str | None, option: str | None, what: str = "model") -> str:
    """What an argument or an option names. Raises UserError unless there is exactly one."""
    from shared.errors import UserError
    from shared.text import one_line

    if argument is not None and option is not None:
        raise UserError(
            f"{one_line(argument, 80)} and --checkpoint {one_line(option, 80)} both name a {what}; "
            "give one of them."
        )
    asked = argument if argument is not None else option
    if asked is None:
        raise UserError(
            f"No {what} is named; give a run or a checkpoint, as {what.upper()} or --checkpoint."
        )
    return asked


def check_numbers(
    *, threads: int | None = None, seed: int | None = None, max_new_tokens: int = 1
) -> None:
    """Raise UserError for numbers out of range, before torch is loaded."""
    from shared.errors import UserError

    if max_new_tokens < 1:
        raise UserError(f"--max-new-tokens is {max_new_tokens}; it must be 1 or more.")
    options.check_threads(threads)
    if seed is not None and not -(2**63) <= seed < 2**63:
        raise UserError(f"--seed is {seed}; it must fit 64 bits.")


def find_model(
    model: str, runs_dir: Path, *, device: str = "auto", tokenizer: str | None = None
) -> Path:
    """The checkpoint folder or GGUF file that `model` names, which has a tokenizer.

    A model of the Hub is downloaded. Loads no torch. Raises UserError, also for a wrong device,
    and RunError.
    """
    from trainer.checkpoint.finding import is_gguf
    from trainer.checkpoint.hub_models import hub_name
    from trainer.checkpoint.references import resolve_reference
    from trainer.checkpoint.tokenizer_files import tokenizer_files
    from trainer.distributed.present import check_device

    check_device(device)
    name = hub_name(model, runs_dir)
    if name is not None:
        from trainer.cli.hub.download import download

        found = download(name).folder
    else:
        meant = resolve_reference(model, runs_dir)
        found = meant.path if is_gguf(meant.path) else meant.find()
    if tokenizer is not None:
        tokenizer_files(Path(tokenizer))
    elif not is_gguf(found):
        tokenizer_files(found)
    return found


def tokenizer_asked(tokenizer: str | None) -> str | None:
    """The file or folder that `--tokenizer` names; that of a model of the Hub is downloaded.

    Raises UserError.
    """
    if tokenizer is None:
        return None
    from trainer.checkpoint.hub_models import hub_name

    name = hub_name(tokenizer)
    if name is None:
        return tokenizer
    from shared.hub.model_files import Want
    from trainer.cli.hub.download import download

    return str(download(name, Want.TOKENIZER).folder)


def check_dtype(dtype: str) -> None:
    """Raise UserError for a precision that does not exist."""
    from shared.errors import UserError
    from shared.text import one_line

    if dtype not in ("fp32", "bf16"):
        raise UserError(f"--dtype {one_line(dtype, 60)!r} is not fp32 or bf16.")


def open_asked(
    model: str,
    runs_dir: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    tokenizer: str | None = None,
) -> OpenedModel:
    """Open the model that `model` names, in evaluation mode. Raises UserError, RunError."""
    tokenizer = tokenizer_asked(tokenizer)
    path = find_model(model, runs_dir, device=device, tokenizer=tokenizer)
    return open_found(path, device=device, threads=threads, tokenizer=tokenizer)


def open_found(
    path: Path, *, device: str = "auto", threads: int | None = None, tokenizer: str | None = None
) -> OpenedModel:
    """Open what `find_model` found. Raises UserError, RunError."""
    import torch

    from trainer.checkpoint.opening import open_model
    from trainer.distributed.device import pick_device

    if threads is not None:
        torch.set_num_threads(threads)
    return open_model(path, pick_device(device), tokenizer=tokenizer)


def compute_asked(opened: OpenedModel, dtype: str) -> Compute:
    """The model's device in the precision `--dtype` names. Raises UserError."""
    check_dtype(dtype)
    from trainer.distributed.device import Compute

    return Compute(opened.model.device, bf16=dtype == "bf16", compile=False)
