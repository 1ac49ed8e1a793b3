"""Which files are a model's tokenizer. Loads no torch, so a missing one is told at once."""

from __future__ import annotations

from pathlib import Path

from shared.checkpoints.catalogue import is_adapter
from shared.errors import UserError
from shared.text import one_line
from trainer.checkpoint.base_model import find_base
from trainer.data.tokenizer_place import gpt2_pair, why_other_kind


def tokenizer_files(place: Path) -> tuple[Path, ...]:
    """The `tokenizer.json` in a file or folder, or GPT-2's pair of files if there is nothing else;
    of adapters without either, those of their base.

    Raises UserError when there is neither.
    """
    if not place.is_dir():
        if place.is_file():
            return (place,)
        raise UserError(
            f"no tokenizer at {one_line(place)}: give a tokenizer.json or its directory; `trainer "
            "tokenizer train` and `trainer prepare-data` make one"
        )
    if (place / "tokenizer.json").is_file():
        return (place / "tokenizer.json",)
    if pair := gpt2_pair(place):
        return pair
    with_it = tokenizer_folder(place)
    if with_it != place:
        return tokenizer_files(with_it)
    if why := why_other_kind(place):
        raise UserError(why)
    raise UserError(
        f"{one_line(place)} has no tokenizer.json (synthetic data has none); name one with "
        "--tokenizer."
    )


def tokenizer_folder(folder: Path) -> Path:
    """`folder`, or that of the base for adapters without a tokenizer. Raises UserError."""
    if is_adapter(folder) and not (folder / "tokenizer.json").is_file():
        return find_base(folder).path
    return folder
