"""Which tokens of conversations the assistant said: the mask file, a byte for every token.

`train.mask` belongs to `train.bin`. `COUNTS` is set where the assistant said the token, so the loss
counts it as a target; `BEGINS` where a conversation begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import UserError
from shared.text import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

COUNTS = 1
BEGINS = 2
SUFFIX = ".mask"
_AGAIN = "run `trainer prepare-data --chat` again"


@dataclass(frozen=True)
class Answered:
    """A conversation as token ids, and for each whether the assistant said it."""

    ids: list[int]
    said: list[bool]


def mask_path(token_path: Path) -> Path:
    """Where the mask file of `token_path` belongs; for a link, beside the file it points to."""
    return token_path.resolve().with_suffix(SUFFIX)


def open_marks(token_path: Path, count: int, expected: str) -> NDArray[np.uint8]:
    """The marks of the `count` tokens of `token_path`, (count,), mapped into memory.

    `expected` is the fingerprint of the file that was made with the tokens. Raises UserError when
    it is missing or another file.
    """
    from trainer.data.tokens import fingerprint

    path = mask_path(token_path)
    shown = one_line(path)
    try:
        size = path.stat().st_size
        if size != count or fingerprint(path) != expected:
            raise UserError(
                f"{shown} does not belong to {token_path.name}: one of them was replaced, or "
                f"writing them was interrupted; {_AGAIN}"
            )
        return np.memmap(path, dtype=np.uint8, mode="r")
    except FileNotFoundError as error:
        raise UserError(
            f"{shown} is missing, which says which tokens of {token_path.name} the assistant said: "
            f"copy it beside the tokens, or {_AGAIN}"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {shown}: {error.strerror}") from error


def document_bounds(marks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where documents begin, and the number of tokens: (documents + 1,)."""
    begins = np.flatnonzero(np.asarray(marks) & BEGINS)
    return np.append(begins, len(marks)).astype(np.int64)
