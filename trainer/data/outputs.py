"""The files that `prepare-data` makes: where they go, and how tokens are written to them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from shared.errors import UserError
from shared.files import expand_user
from shared.text import format_bytes
from trainer.data.file_set import FileSet, cannot_write
from trainer.data.marks import BEGINS, COUNTS, mask_path
from trainer.data.split import TRAIN, VALIDATION, Part
from trainer.data.tokenizer import TOKENIZER_FILES
from trainer.data.tokens import MANIFEST, TOKEN_BYTES, sidecar_path

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Targets:
    """Where everything goes. `link` is the name `tokens.bin` for a directory's `train.bin`."""

    train: Path
    val: Path
    link: Path | None

    @property
    def directory(self) -> Path:
        """Where the tokenizer's files go."""
        return self.train.parent

    @property
    def manifest(self) -> Path | None:
        """Where the manifest of shards in the same folder would be."""
        return self.directory / MANIFEST if self.link else None

    @property
    def files(self) -> list[Path]:
        """Every file that may be written."""
        tokens = [self.train, self.val]
        tokenizer = [self.directory / name for name in TOKENIZER_FILES]
        return [*tokens, *map(sidecar_path, tokens), *map(mask_path, tokens), *tokenizer]


@dataclass
class TokenWriter:
    """One token file being written, with its mask file if it has one.

    `counted` tokens are marked as such; the `longest` document has so many.
    """

    path: Path
    file: IO[bytes]
    mask: IO[bytes] | None = None
    num_tokens: int = 0
    num_documents: int = 0
    text_bytes: int = 0
    counted: int = 0
    longest: int = 0
    #: Whether the last document that was added goes on.
    within: bool = False
    _waiting: list[NDArray[np.uint32]] = field(default_factory=list)

    def add(
        self,
        part: Part,
        ids: NDArray[np.uint32],
        *,
        begin: NDArray[np.uint32],
        end: NDArray[np.uint32],
    ) -> None:
        """Add the `ids` of `part`, after `begin` if its document begins here, and before `end` if
        it ends here."""
        if not self.within:
            self._waiting.append(begin)
        self.within = not part.ends
        self._waiting.append(ids)
        self.text_bytes += part.num_bytes
        if part.ends:
            self._waiting.append(end)
            self.num_documents += 1

    def add_document(self, ids: NDArray[np.uint32], counts: NDArray[np.bool_]) -> None:
        """Add a document with a mark for each token whether it `counts`."""
        assert self.mask is not None
        marks = counts.astype(np.uint8) * np.uint8(COUNTS)
        marks[:1] |= BEGINS
        self._waiting.append(ids)
        self.mask.write(marks.data)
        self.num_documents += 1
        self.counted += int(np.count_nonzero(counts))
        self.longest = max(self.longest, len(ids))

    def flush(self) -> None:
        """Write what was added."""
        if self._waiting:
            tokens = np.concatenate(self._waiting).astype("<u4", copy=False)
            self._waiting.clear()
            self.num_tokens += len(tokens)
            self.file.write(tokens.data)


def plan_targets(output: str, val_output: str | None) -> Targets:
    """Where the files go for `--output` (a directory or a `.bin` file) and `--val-output`."""
    place = expand_user(output)
    if place.suffix == ".bin" and not place.is_dir():
        train, link = place, None
        default_val = "val.bin" if place.name == "train.bin" else f"{place.stem}_val.bin"
    else:
        if place.exists() and not place.is_dir():
            raise UserError(
                f"--output {place} is a file: give a directory or a file name ending in .bin"
            )
        train, link, default_val = place / "train.bin", place / "tokens.bin", "val.bin"
    val = expand_user(val_output) if val_output else train.parent / default_val
    if val.suffix != ".bin" or val.is_dir():
        raise UserError(f"--val-output {val} must be a file name ending in .bin")
    if val.resolve() == train.resolve():
        raise UserError(f"--output and --val-output are the same file {train}: give two names")
    return Targets(train, val, link)


@contextlib.contextmanager
def open_writers(
    targets: Targets, files: FileSet, *, masks: bool = False
) -> Iterator[dict[int, TokenWriter]]:
    """Writers for both sides, by side, whose files are part of `files`; with `masks` mask files
    are among them.

    Raises RunError when the disk is full, UserError when a file cannot be written or another
    process is writing it.
    """
    writers: dict[int, TokenWriter] = {}
    try:
        for side, path in ((TRAIN, targets.train), (VALIDATION, targets.val)):
            mask = files.open(mask_path(path)) if masks else None
            writers[side] = TokenWriter(path, files.open(path), mask)
        yield writers
    except OSError as error:
        written = sum(writer.num_tokens for writer in writers.values()) * TOKEN_BYTES
        after = f" after {format_bytes(written)} of tokens"
        raise cannot_write(error, targets.directory, after) from error
