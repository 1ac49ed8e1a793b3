"""`trainer grow`: a checkpoint becomes a larger model that computes the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.cli import options
from trainer.cli.models import evaluate, model_options
from trainer.cli.output import print_table

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.growth.checkpoint import Source
    from trainer.growth.measuring import Measured
    from trainer.growth.plan import Growth

MEASURED = 8  # sequences
COPIES = 2  # of the larger weights, at least: those that are written, and the model they are in


def grow(
    model: model_options.ModelArgument = None,
    *,
    checkpoint: model_options.Model = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    to: Annotated[
        str,
        typer.Option(
            metavar="PRESET|KEY=N,…",
            help="The larger model: a preset's sizes, or hidden_size, num_layers, num_heads, "
            "num_kv_heads, head_dim, intermediate_size.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="New folder; default: here, by name and size."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="pad|duplicate|stack",
            help="Zeros beside the weights, repeated channels, or repeated blocks (not lossless).",
        ),
    ] = "pad",
    place: Annotated[
        str, typer.Option(metavar="interleave|top", help="Where new blocks go.")
    ] = "interleave",
    data: evaluate.Data = None,
    seed: Annotated[int, typer.Option(help="Random seed of the new weights.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the sizes and write nothing.")
    ] = False,
    json: options.Json = False,
) -> int:
    """Make a larger model of a trained one that computes the same, optimizer state included.

    The predictions of both are compared on real text first, by default the validation data of the
    model's run; if they differ, nothing is written. Train on with --begin-from DIR --begin-with
    state.
    """
    from shared.errors import UserError
    from shared.text import one_line
    from trainer.config.resolve import to_plain
    from trainer.growth.plan import METHODS, PLACES, plan_growth

    if method not in METHODS:
        raise UserError(f"--method {one_line(method, 60)!r} is not pad, duplicate or stack.")
    if place not in PLACES:
        raise UserError(f"--place {one_line(place, 60)!r} is not interleave or top.")
    model_options.check_numbers(seed=seed)
    sizes = asked_sizes(to)
    if output is not None and not dry_run:
        _check_output(output)
    asked = model_options.model_asked(model, checkpoint)
    folder = model_options.find_model(asked, runs_dir)
    if folder.is_file():
        raise UserError(f"{one_line(folder)} is a GGUF file; grow a checkpoint or a folder.")

    from trainer.checkpoint.loading import model_config

    growth = plan_growth(model_config(folder), sizes, method=method, place=place)
    if dry_run:
        _show(growth, None, None, json=json)
        return 0

    from trainer.growth.checkpoint import check_growth, grown_snapshot, open_source, write_grown

    place_of = output or Path(f"{folder.name}-{_size_name(growth)}")
    _check_output(place_of, folder)
    _check_room(growth)
    source = open_source(folder)
    ids = _text(source, list(data or ()), to_plain(source.config))
    snapshot = grown_snapshot(source, growth, seed)
    measured = check_growth(source, growth, snapshot, ids)
    write_grown(place_of, source, snapshot)
    _show(growth, measured, place_of, json=json)
    return 0


def asked_sizes(to: str) -> dict[str, int]:
    """The sizes of a preset, or those of `key=number,…`. Raises UserError."""
    from shared.errors import UserError
    from shared.text import one_line
    from trainer.config.resolve import load_source, preset_names, resolve
    from trainer.growth.sizes import SIZES, sizes_of

    if "=" not in to:
        if to not in preset_names():
            raise UserError(
                f"--to {one_line(to, 60)!r} is neither a preset (trainer config list) nor sizes "
                "such as hidden_size=512,num_layers=8."
            )
        model = resolve(load_source(to)[0], {"model.vocab_size": 1}).model
        return sizes_of(model)
    sizes: dict[str, int] = {}
    for item in to.split(","):
        key, _, value = (part.strip() for part in item.partition("="))
        name = key.removeprefix("model.")
        if name not in SIZES or not re.fullmatch("[1-9][0-9]{0,11}", value):
            raise UserError(
                f"--to {one_line(item, 60)!r} is not a size: give {', '.join(SIZES[:-1])} or "
                f"{SIZES[-1]} and a number from 1 on, as in hidden_size=512."
            )
        if name in sizes:
            raise UserError(f"--to gives {name} twice.")
        sizes[name] = int(value)
    return sizes


def _check_output(output: Path, folder: Path | None = None) -> None:
    """Raise UserError for a place where the larger model cannot be written, such as in the
    checkpoint's own `folder`."""
    import os

    from shared.errors import UserError
    from shared.text import one_line

    if output.exists() or output.is_symlink():
        raise UserError(f"{one_line(output)} exists already; choose another place with --output.")
    if not output.parent.is_dir():
        raise UserError(f"The folder {one_line(output.parent)} of --output does not exist.")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise UserError(f"The folder {one_line(output.parent)} of --output cannot be written to.")
    if folder is not None and output.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{one_line(output)} is inside the checkpoint that grows, which stays as it is; choose "
            "another place with --output."
        )


def _check_room(growth: Growth) -> None:
    """Raise UserError if this machine cannot hold the larger model."""
    import psutil

    from shared.errors import UserError
    from shared.text import format_bytes, format_count
    from trainer.model.shapes import count_parameters

    count = count_parameters(growth.new)
    needed = COPIES * 4 * count
    available = psutil.virtual_memory().total + psutil.swap_memory().total
    if needed > available:
        raise UserError(
            f"A model of {format_count(count)} parameters needs {format_bytes(needed)} to grow to "
            f"it, and this machine has {format_bytes(available)}; choose smaller sizes for --to."
        )


def _text(source: Source, data: list[str], config: dict[str, Any]) -> Tensor:
    """Tokens of real text to compare the models on, (B, T). Raises UserError if there is none."""
    import torch

    from shared.errors import UserError
    from trainer.checkpoint.opening import open_model
    from trainer.evaluate.datasets import check_paths, held_back, open_data
    from trainer.growth.checkpoint import sequences

    opened = open_model(source.folder, torch.device("cpu"))
    n = source.model.dimensions
    length = min(n.T, 256)
    most = length * MEASURED
    if data:
        check_paths(data)
        found = open_data(data, opened.tokenizer, n.V, most)[0]
    else:
        found = held_back(config, opened.tokenizer, n.V, most)
    ids = sequences(found.files[0].tokens, length, MEASURED)
    if ids.shape[1] < 2:
        raise UserError(f"{found.name} has too little text to compare the models on.")
    return ids


def _size_name(growth: Growth) -> str:
    """The number of parameters for a folder's name: `12M`."""
    from shared.text import format_count
    from trainer.model.shapes import count_parameters

    return format_count(count_parameters(growth.new)).replace(".", "_")


def _show(growth: Growth, measured: Measured | None, output: Path | None, *, json: bool) -> None:
    from shared.text import format_count, one_line
    from trainer.cli.output import print_json
    from trainer.model.dimensions import dimensions
    from trainer.model.shapes import count_parameters

    counts = [count_parameters(model) for model in (growth.old, growth.new)]
    if json:
        facts: dict[str, Any] = {
            "method": growth.method,
            "lossless": growth.preserves,
            "parameters": counts,
            "output": None if output is None else str(output),
            "measured": None if measured is None else vars(measured),
        }
        print_json(facts)
        return
    before, after = dimensions(growth.old), dimensions(growth.new)
    rows = [["", "before", "after"], ["parameters", *map(format_count, counts)]]
    for name, letter in (
        ("width", "D"),
        ("feed-forward width", "F"),
        ("layers", "L"),
        ("heads", "H"),
        ("key-value heads", "K"),
    ):
        rows.append([name, str(getattr(before, letter)), str(getattr(after, letter))])
    if measured is not None:
        rows.append(["loss", f"{measured.loss_before:.4f}", f"{measured.loss_after:.4f}"])
    print_table(rows, numbers=(1,))
    if measured is not None:
        typer.echo(
            f"On {measured.tokens} tokens logits differ by {measured.difference:.2g} at most; the "
            f"largest is {measured.largest:.3g}."
        )
    if output is not None:
        typer.echo(f"Written: {one_line(output)}")
