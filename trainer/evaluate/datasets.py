"""The text to score: files of text, token files, or what a run has held back for validation."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from shared.checkpoints.manifest import file_sha256
from shared.errors import UserError
from shared.text import one_line
from trainer.data.documents import DocumentReader, Piece, ReadCounts, reading_notes
from trainer.data.inputs import InputFile, find_inputs
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokens import CHECK_TOKENS, find_tokens, open_tokens, validation_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOKEN_FILE = ".bin"
BATCH_CHARACTERS = 1 << 20  # of text, encoded together


@dataclass(frozen=True)
class ScoredFile:
    """One file as tokens, (N,): the model is given the first one and scored on the others.

    `bytes` is the length of the others' text in UTF-8, None where that cannot be told.
    """

    name: str
    sha256: str
    tokens: NDArray[np.uint32]
    bytes: int | None


@dataclass(frozen=True)
class DataSet:
    """Files that are scored together, each as a sequence of its own.

    `notes` are for the person: what was left out of the files or mended in them.
    """

    name: str
    kind: Literal["text", "tokens"]
    split: str
    files: tuple[ScoredFile, ...]
    max_tokens: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the file's bytes; of several, that of their checksums in order."""
        if len(self.files) == 1:
            return self.files[0].sha256
        return hashlib.sha256("".join(file.sha256 for file in self.files).encode()).hexdigest()

    @property
    def tokens(self) -> int:
        """Tokens to score."""
        return sum(len(file.tokens) - 1 for file in self.files)


def open_data(
    paths: Sequence[str], tokenizer: Tokenizer, vocab_size: int, max_tokens: int | None = None
) -> list[DataSet]:
    """The token files among `paths`, each a data set, and one of all the text.

    `paths` may be files, folders, globs; a folder that holds `val.bin` means that file. Only the
    first `max_tokens` of each file are taken. Raises UserError for what cannot be scored.
    """
    token_files = [path for path in map(_token_file, paths) if path is not None]
    texts = [path for path in paths if _token_file(path) is None]
    found = [_open_tokens(path, tokenizer, vocab_size, max_tokens) for path in token_files]
    if texts:
        found.append(_open_text(texts, tokenizer, max_tokens))
    return found


def held_back(
    config: Mapping[str, Any], tokenizer: Tokenizer, vocab_size: int, max_tokens: int | None = None
) -> DataSet:
    """The validation tokens that a run with this configuration (`config.yaml`) has held back.

    Raises UserError when there are none, or they are not here.
    """
    section = config.get("data")
    data: Mapping[str, Any] = section if isinstance(section, dict) else {}
    remedy = "name text or token files with --data"
    if data.get("dataset") == "synthetic":
        raise UserError(f"Synthetic data holds no text to be scored; {remedy}.")
    path, chosen = data.get("path"), data.get("val_path")
    if not isinstance(chosen, str):
        if not isinstance(path, str):
            raise UserError(f"The model does not tell what it was validated on; {remedy}.")
        try:
            validation = validation_path(find_tokens(path))
        except UserError:
            validation = None
        if validation is None:
            raise UserError(f"There is no validation data beside {one_line(path)}; {remedy}.")
        chosen = str(validation)
    found = _open_tokens(Path(chosen), tokenizer, vocab_size, max_tokens)
    return DataSet(found.name, found.kind, "validation", found.files, max_tokens)


def _token_file(text: str) -> Path | None:
    """The token file that `text` names: itself, or the validation file of a prepared folder."""
    path = Path(text).expanduser()
    if path.is_dir():
        return next((p for p in (path / "val.bin", path / "tokens.bin") if p.is_file()), None)
    return path if path.suffix == TOKEN_FILE else None


def _open_tokens(
    path: Path, tokenizer: Tokenizer, vocab_size: int, max_tokens: int | None
) -> DataSet:
    """A token file, all of it or its beginning. Its first token is given, not scored."""
    file = open_tokens(path, vocab_size=vocab_size, tokenizer_hash=tokenizer.hash)
    if file.count < 2:
        raise UserError(f"{one_line(path)} has {file.count} token; scoring needs two.")
    tokens = file.tokens if max_tokens is None else file.tokens[: max_tokens + 1]
    size = _text_bytes(tokens[1:], tokenizer)
    if size is None and file.sidecar and file.sidecar.text_bytes:
        # As during training: the bytes of a token on average.
        size = round((len(tokens) - 1) * file.sidecar.text_bytes / file.count)
    scored = ScoredFile(path.name, file_sha256(path), tokens, size)
    is_held_back = bool(file.sidecar and file.sidecar.split == "val")
    return DataSet(path.name, "tokens", "validation" if is_held_back else "", (scored,), max_tokens)


def _open_text(paths: Sequence[str], tokenizer: Tokenizer, max_tokens: int | None) -> DataSet:
    """Text files, every one a sequence that begins with a token that stands before texts."""
    inputs = find_inputs(paths)
    counts = ReadCounts()
    files: list[ScoredFile] = []
    for file, name in zip(inputs.files, _names(inputs.files), strict=True):
        reader = DocumentReader([file])
        tokens = _encode(reader, file, tokenizer, max_tokens)
        whole = max_tokens is None or len(tokens) <= max_tokens
        tokens = tokens if whole else tokens[: max_tokens + 1]  # type: ignore[operator]
        _add(counts, reader.counts)
        if len(tokens) > 1:
            size = reader.counts.text_bytes if whole else _text_bytes(tokens[1:], tokenizer)
            files.append(ScoredFile(name, file_sha256(file.path), tokens, size))
    if not files:
        raise UserError(f"There is no text in {', '.join(map(one_line, paths))}.")
    name = files[0].name if len(files) == 1 else ", ".join(Path(path).name for path in paths)
    notes = tuple(reading_notes(counts, inputs))
    return DataSet(one_line(name, 80), "text", "", tuple(files), max_tokens, notes)


def _names(files: Sequence[InputFile]) -> list[str]:
    """What to call them: their paths below the folder they have in common."""
    parents = {file.path.absolute().parent for file in files}
    top = os.path.commonpath(parents)
    return [one_line(file.path.absolute().relative_to(top)) for file in files]


def _encode(
    reader: DocumentReader, file: InputFile, tokenizer: Tokenizer, max_tokens: int | None
) -> NDArray[np.uint32]:
    """The tokens of a file's documents, an end-of-text token behind each. Before the first stands
    one too, or the token with which the model's own program begins texts.

    Reading stops when there are more than `max_tokens`.
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
            f"{one_line(file.path)} has characters that the model's tokenizer cannot write; "
            "it can only be measured on text within its character set."
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
    """The bytes that `tokens` spell, special ones none; None where tokens are not made of bytes."""
    if not (tokenizer.lossless or tokenizer.restricted):
        return None
    count = tokenizer.vocab_size
    spelled = (len(tokenizer.decode_bytes([i], skip_special=True)) for i in range(count))
    lengths = np.fromiter(spelled, dtype=np.int64, count=count)
    lengths = np.append(lengths, 0)  # for ids with which a model pads its vocabulary
    starts = range(0, len(tokens), CHECK_TOKENS)
    blocks = (np.minimum(tokens[start : start + CHECK_TOKENS], count) for start in starts)
    return sum(int(lengths[block].sum()) for block in blocks)
