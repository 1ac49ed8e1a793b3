"""Which files are a model's tokenizer. Loads no torch, so a missing one is told at once."""

from __future__ import annotations

from pathlib import Path

from shared.errors import UserError
from shared.text import one_line
from trainer.data.tokenizer_place import why_other_kind


def tokenizer_files(place: Path) -> tuple[Path, ...]:
    """The `tokenizer.json` in a file or folder, or GPT-2's pair of files if there is nothing else.

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
    pair = place / "vocab.json", place / "merges.txt"
    if all(path.is_file() for path in pair):
        return pair
    if why := why_other_kind(place):
        raise UserError(why)
    raise UserError(
        f"{one_line(place)} has no tokenizer.json (synthetic data has none); name one with "
        "--tokenizer."
    )
