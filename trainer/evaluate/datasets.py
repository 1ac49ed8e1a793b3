"""The text to score: text files, token files, or the validation data of a run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from shared.checkpoints.manifest import file_sha256
from shared.errors import UserError
from shared.files import expand_user
from shared.text import one_line
from trainer.data.documents import DocumentReader, Piece
from trainer.data.inputs import InputFile, find_inputs
from trainer.data.marks import COUNTS, document_bounds
from trainer.data.places import data_places, validation_files
from trainer.data.read_counts import ReadCounts, reading_notes
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokens import (
    CHECK_TOKENS,
    MANIFEST,
    check_token_files,
    find_validation,
    open_tokens,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOKEN_FILE = ".bin"
BATCH_CHARACTERS = 1 << 20  # of text, encoded together


@dataclass(frozen=True)
class ScoredFile:
    """One file as tokens, (N,). All tokens but the first are scored.

    `bytes` is the length of their text in UTF-8, None if it is unknown. A file of conversations has
    `marks` (N,): each is scored on its own, and only what the assistant said. With `document_end`,
    the token that ends documents, each of those is scored on its own.
    """

    name: str
    sha256: str
    tokens: NDArray[np.uint32]
    bytes: int | None
    marks: NDArray[np.uint8] | None = None
    document_end: int | None = None

    @property
    def sequences(self) -> list[tuple[NDArray[np.uint32], NDArray[np.bool_] | None]]:
        """What is scored on its own: tokens, and which of them count (all if None)."""
        if self.document_end is not None:
            ends = np.flatnonzero(np.asarray(self.tokens) == self.document_end) + 1
            return [(tokens, None) for tokens in np.split(self.tokens, ends) if len(tokens)]
        if self.marks is None:
            return [(self.tokens, None)]
        bounds = document_bounds(self.marks).tolist()
        said = (np.asarray(self.marks) & COUNTS) > 0
        return [(self.tokens[a:b], said[a:b]) for a, b in pairwise(bounds)]

    @cached_property
    def scored(self) -> int:
        """The number of tokens to score."""
        return sum(
            len(tokens) - 1 if counts is None else int(np.count_nonzero(counts[1:]))
            for tokens, counts in self.sequences
        )


@dataclass(frozen=True)
class DataSet:
    """Files that are scored together, each as its own sequence.

    `notes` tell a person what was left out of the files or repaired in them.
    """

    name: str
    kind: Literal["text", "tokens"]
    split: str
    files: tuple[ScoredFile, ...]
    max_tokens: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """The checksum of the file; of several files, the checksum of their checksums in order."""
        if len(self.files) == 1:
            return self.files[0].sha256
        return hashlib.sha256("".join(file.sha256 for file in self.files).encode()).hexdigest()

    @property
    def tokens(self) -> int:
        """The number of tokens to score."""
        return sum(file.scored for file in self.files)


def open_data(
    paths: Sequence[str],
    tokenizer: Tokenizer,
    vocab_size: int,
    max_tokens: int | None = None,
    text_field: str = "text",
    *,
    apart: bool = False,
) -> list[DataSet]:
    """One data set for each token file among `paths`, and one for all the text. With `apart`, each
    document is scored on its own.

    `paths` may be files, folders or globs; a folder with a `val.bin` stands for that file. Only the
    first `max_tokens` of each file are scored; `text_field` holds a record's text. Raises
    UserError for data that cannot be scored.
    """
    token_files = [path for path in map(_token_file, paths) if path is not None]
    texts = [path for path in paths if _token_file(path) is None]
    found = [
        _open_tokens(path, tokenizer, vocab_size, max_tokens, apart=apart) for path in token_files
    ]
    if texts:
        found.append(_open_text(texts, tokenizer, max_tokens, text_field, apart=apart))
    return found


def check_paths(paths: Sequence[str]) -> None:
    """Raise UserError for a path of `open_data` that names no files, before anything is loaded."""
    for path in paths:
        file = _token_file(path)
        if file is None:
            find_inputs([path])
        else:
            check_token_files(str(file), None)


def trained_apart(config: Mapping[str, Any]) -> bool:
    """Whether the documents of a run with this configuration did not see each other."""
    train = config.get("train")
    return isinstance(train, dict) and train.get("document_mask") is True


def held_back(
    config: Mapping[str, Any],
    tokenizer: Tokenizer,
    vocab_size: int,
    max_tokens: int | None = None,
    *,
    apart: bool | None = None,
) -> DataSet:
    """The validation data of a run with this configuration (`config.yaml`), its documents `apart`
    by default if they were in training.

    Raises UserError if there is none or its file is missing.
    """
    section = config.get("data")
    data: Mapping[str, Any] = section if isinstance(section, dict) else {}
    remedy = "name text or token files with --data"
    if data.get("dataset") == "synthetic":
        raise UserError(f"Synthetic data has no text to score; {remedy}.")
    chosen = data.get("val_path")
    if isinstance(chosen, str):
        chosen_files = [find_validation(chosen, "the run's data.val_path")]
    else:
        places = data_places(data)
        if not places:
            raise UserError(f"The model does not name its validation data; {remedy}.")
        chosen_files = list(validation_files(data))
        if not chosen_files:
            told = ", ".join(map(one_line, places))
            raise UserError(f"There is no validation data beside {told}; {remedy}.")
    apart = trained_apart(config) if apart is None else apart
    found = [
        _open_tokens(path, tokenizer, vocab_size, max_tokens, apart=apart) for path in chosen_files
    ]
    files = tuple(file for one in found for file in one.files)
    if len(found) > 1:  # each is named by its folder: all are val.bin
        names = [path.absolute().parent.name for path in chosen_files]
        files = tuple(
            replace(file, name=f"{one_line(name, 60)}/{file.name}")
            for name, file in zip(names, files, strict=True)
        )
    name = ", ".join(one_line(file.name, 60) for file in files)
    return DataSet(name, "tokens", "validation", files, max_tokens)


def _token_file(text: str) -> Path | None:
    """The token file at `text`: itself, or the validation file of a prepared folder; without one
    the training tokens."""
    path = expand_user(text)
    if path.is_dir():
        names = ("val.bin", "tokens.bin", MANIFEST)
        return next((path / name for name in names if (path / name).is_file()), None)
    return path if path.suffix == TOKEN_FILE or path.name == MANIFEST else None


def _open_tokens(
    path: Path,
    tokenizer: Tokenizer,
    vocab_size: int,
    max_tokens: int | None,
    *,
    apart: bool = False,
) -> DataSet:
    """A token file, or its beginning. Its first token is not scored; with `apart` documents are
    scored on their own."""
    file = open_tokens(path, vocab_size=vocab_size, tokenizer_hash=tokenizer.hash)
    if file.count < 2:
        raise UserError(f"{one_line(path)} has {file.count} token; scoring needs two.")
    tokens = file.view[: file.count if max_tokens is None else max_tokens + 1]
    marks = None if file.marks is None else np.asarray(file.marks)[: len(tokens)]
    end = file.sidecar.eos_id if apart and file.sidecar and marks is None else None
    size = None if marks is not None else _text_bytes(_predicted(tokens, end), tokenizer)
    if size is None and file.sidecar and file.sidecar.text_bytes:
        # As in training: the average bytes per token.
        size = round((len(tokens) - 1) * file.sidecar.text_bytes / file.count)
    scored = ScoredFile(path.name, file_sha256(path), tokens, size, marks, end)
    if not scored.scored:
        raise UserError(f"{one_line(path)} has no token to score.")
    is_held_back = bool(file.sidecar and file.sidecar.split == "val")
    return DataSet(path.name, "tokens", "validation" if is_held_back else "", (scored,), max_tokens)


def _predicted(tokens: NDArray[np.uint32], end: int | None) -> NDArray[np.uint32]:
    """The tokens that are scored: all but the first, of each document if `end` ends them."""
    predicted = tokens[1:]
    return predicted if end is None else predicted[np.asarray(tokens[:-1]) != end]


def _open_text(
    paths: Sequence[str],
    tokenizer: Tokenizer,
    max_tokens: int | None,
    text_field: str,
    *,
    apart: bool = False,
) -> DataSet:
    """Text files, each a sequence that begins with the token that precedes texts. With `apart`,
    each document is one, and its first token is not scored."""
    end = tokenizer.eos_id if apart else None
    inputs = find_inputs(paths)
    counts = ReadCounts()
    files: list[ScoredFile] = []
    for file, name in zip(inputs.files, _names(inputs.files), strict=True):
        reader = DocumentReader([file], text_field)
        tokens = _encode(reader, file, tokenizer, max_tokens)
        whole = max_tokens is None or len(tokens) <= max_tokens
        tokens = tokens if whole else tokens[: max_tokens + 1]  # type: ignore[operator]
        _add(counts, reader.counts)
        if len(tokens) > 1:
            size: int | None = reader.counts.text_bytes
            if not whole or end is not None:
                size = _text_bytes(_predicted(tokens, end), tokenizer)
            scored = ScoredFile(name, file_sha256(file.path), tokens, size, document_end=end)
            if scored.scored:
                files.append(scored)
    if not files:
        raise UserError(f"There is no text in {', '.join(map(one_line, paths))}.")
    name = files[0].name if len(files) == 1 else ", ".join(Path(path).name for path in paths)
    notes = tuple(reading_notes(counts, inputs))
    return DataSet(one_line(name, 80), "text", "", tuple(files), max_tokens, notes)


def _names(files: Sequence[InputFile]) -> list[str]:
    """The names of the files: their paths below their common folder."""
    parents = {file.path.absolute().parent for file in files}
    top = os.path.commonpath(parents)
    return [one_line(file.path.absolute().relative_to(top)) for file in files]


def _encode(
    reader: DocumentReader, file: InputFile, tokenizer: Tokenizer, max_tokens: int | None
) -> NDArray[np.uint32]:
    """The tokens of a file's documents, each followed by an end-of-text token. Before the first is
    one too, or the token that begins texts in the model's own program.

    Reading stops after more than `max_tokens`.
    """
    end = np.array([tokenizer.eos_id], dtype=np.uint32)
    begin = np.array(tokenizer.begin_ids[-1:] or [tokenizer.eos_id], dtype=np.uint32)
    found, count = [begin], 0
    try:
        for batch in _batches(reader):
            arrays = tokenizer.encode_arrays([piece.text for piece in batch])
            for piece, ids in zip(batch, arrays, strict=True):
                found += [ids, end] if piece.last else [ids]
                count += len(ids) + piece.last
            if max_tokens is not None and count > max_tokens:
                break
    except UserError as error:
        if not tokenizer.restricted or str(file.path) in str(error):
            raise
        raise UserError(
            f"{one_line(file.path)} has characters outside the character set of the model's "
            "tokenizer, so the model cannot be evaluated on it."
        ) from error
    return np.concatenate(found)


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _add(total: ReadCounts, counts: ReadCounts) -> None:
    for field in fields(ReadCounts):
        setattr(total, field.name, getattr(total, field.name) + getattr(counts, field.name))


def _text_bytes(tokens: NDArray[np.uint32], tokenizer: Tokenizer) -> int | None:
    """The bytes of `tokens` without special ones; None if tokens are not made of bytes."""
    if not (tokenizer.lossless or tokenizer.restricted):
        return None
    count = tokenizer.vocab_size
    spelled = (len(tokenizer.decode_bytes([i], skip_special=True)) for i in range(count))
    lengths = np.fromiter(spelled, dtype=np.int64, count=count)
    lengths = np.append(lengths, 0)  # for the ids to which a model pads its vocabulary
    starts = range(0, len(tokens), CHECK_TOKENS)
    blocks = (np.minimum(tokens[start : start + CHECK_TOKENS], count) for start in starts)
    return sum(int(lengths[block].sum()) for block in blocks)
