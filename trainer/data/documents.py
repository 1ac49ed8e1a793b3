"""Files as a stream of documents, never held in memory.

A file is one document, or one per record for JSON Lines and Parquet. A document arrives as one
or more `Piece`s of at most `PIECE_CHARACTERS`, so a file larger than memory streams like any
other. A piece ends between a letter or digit and the space or newline after it: the split
patterns of GPT-2, Qwen2, Llama 3 and their kin never put such a pair into one token, so the
cut changes no token. Where a stretch has no such place the cut falls anywhere, which costs one
token its best merge and loses nothing.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from shared.errors import UserError
from shared.text import one_line, plural
from trainer.data.inputs import (
    RECORD_EXTENSIONS,
    TABLE_EXTENSIONS,
    InputFile,
    InputSet,
    extension_of,
)

PIECE_CHARACTERS = 64 * 1024
CUT_WINDOW = 4096  # characters searched backwards for a cut that changes no token
READ_BYTES = 256 * 1024
BINARY_PROBE_BYTES = 8192

_SAFE_CUT = re.compile(r".*[^\W_](?=[ \n])", re.DOTALL)
_SURROGATES = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with the same two bytes
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Piece(NamedTuple):
    """A part of a document: `num_bytes` is its length as UTF-8."""

    text: str
    num_bytes: int
    first: bool
    last: bool


@dataclass
class ReadCounts:
    """Counts of one pass over the documents. `disk_bytes` are those before decompression."""

    documents: int = 0
    text_bytes: int = 0
    disk_bytes: int = 0
    empty_documents: int = 0
    binary_files: int = 0
    replaced_characters: int = 0


def safe_cut(text: str, limit: int, window: int = CUT_WINDOW) -> int:
    """The largest index ≤ `limit` where `text` can be cut without changing its tokens.

    `limit` itself when there is no such place in the `window` characters before it.
    """
    start = max(0, limit - window)
    match = _SAFE_CUT.match(text, start, min(len(text), limit + 1))
    return match.end() if match else limit


class DocumentReader:
    """One pass over the documents of `files`, as pieces, in a fixed order.

    Invalid UTF-8 becomes U+FFFD and is counted; a byte order mark is obeyed and dropped. Binary
    files (a NUL byte near the start) are skipped and counted, or refused when named. Empty
    documents are counted and give no piece. Every problem with a file is a UserError that
    names it.
    """

    def __init__(self, files: Sequence[InputFile], text_field: str = "text") -> None:
        self.files = files
        self.text_field = text_field
        self.counts = ReadCounts()

    def __iter__(self) -> Iterator[Piece]:
        self.counts = ReadCounts()
        finished = 0
        for file in self.files:
            try:
                if extension_of(file.path) in TABLE_EXTENSIONS:
                    yield from self._read_parquet(file.path)
                else:
                    with file.path.open("rb") as raw:
                        for piece in self._read_file(file, raw):
                            self.counts.disk_bytes = finished + raw.tell()
                            yield piece
            except OSError as error:
                if error.errno is None:  # what gzip and bz2 raise for bytes that are not theirs
                    raise _damaged(file.path, error) from error
                raise UserError(f"cannot read {file.path}: {one_line(error.strerror)}") from error
            except (EOFError, zlib.error, lzma.LZMAError, _zstd_error()) as error:
                raise _damaged(file.path, error) from error
            finished += file.size
            self.counts.disk_bytes = finished

    def _read_file(self, file: InputFile, raw: IO[bytes]) -> Iterator[Piece]:
        stream = _decompressed(file.path, raw)
        if extension_of(file.path) in RECORD_EXTENSIONS:
            yield from self._read_records(file.path, stream)
            return
        block = stream.read(READ_BYTES)
        encoding, mark = next(
            ((name, mark) for mark, name in _BOMS if block.startswith(mark)), ("utf-8", b"")
        )
        if not mark and b"\0" in block[:BINARY_PROBE_BYTES]:
            if file.named:
                raise UserError(
                    f"{file.path} is not text: it has a NUL byte near its start; give text, "
                    "JSON Lines or Parquet files"
                )
            self.counts.binary_files += 1
            return
        yield from self._document(self._decode(encoding, block[len(mark) :], stream))

    def _decode(self, encoding: str, block: bytes, stream: IO[bytes]) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        tail = b""
        while block:
            text = decoder.decode(block)
            if _REPLACEMENT in text:
                # A U+FFFD the author wrote is not a replacement; it may straddle two blocks.
                written = (tail + block).count(b"\xef\xbf\xbd") if encoding == "utf-8" else 0
                self.counts.replaced_characters += text.count(_REPLACEMENT) - written
            tail = block[-2:]
            yield text
            block = stream.read(READ_BYTES)
        rest = decoder.decode(b"", final=True)
        self.counts.replaced_characters += rest.count(_REPLACEMENT)
        yield rest

    def _read_records(self, path: Path, stream: IO[bytes]) -> Iterator[Piece]:
        for number, line in enumerate(stream, 1):
            if number == 1 and line.startswith(codecs.BOM_UTF8):
                line = line[len(codecs.BOM_UTF8) :]  # noqa: PLW2901
            if not line.isspace():
                record = self._parse(path, number, line)
                yield from self._document((self._field(path, f"line {number}", record),))

    def _parse(self, path: Path, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = orjson.loads(line)
        except ValueError:
            # json accepts what orjson rightly refuses: lone surrogates, NaN, repaired UTF-8.
            text = line.decode("utf-8", "replace")
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{path} line {number} is not valid JSON ({one_line(error)}): each line must "
                    "be one JSON object"
                ) from error
            mended = text.count(_REPLACEMENT) - line.count(b"\xef\xbf\xbd")
            self.counts.replaced_characters += mended
        if not isinstance(record, dict):
            raise UserError(
                f"{path} line {number} is {_json_type(record)} in JSON, not an object with a "
                f"{self.text_field!r} field"
            )
        return record

    def _field(self, path: Path, where: str, record: dict[str, Any]) -> str:
        there, value = _find_field(record, self.text_field)
        if not there:
            known = ", ".join(map(one_line, record)) or "none"
            raise UserError(
                f"{path} {where} has no field {self.text_field!r}; its fields are "
                f"{one_line(known)}: choose one with --text-field"
            )
        if value is None:
            return ""
        if not isinstance(value, str):
            raise UserError(
                f"{path} {where}: field {self.text_field!r} is {_json_type(value)}, not text"
            )
        return value

    def _read_parquet(self, path: Path) -> Iterator[Piece]:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise UserError(
                f"reading {path} needs pyarrow: pip install 'train-monitor[parquet]'"
            ) from error
        start = self.counts.disk_bytes
        try:
            with pq.ParquetFile(path, pre_buffer=False) as file:
                schema = file.schema_arrow
                column = self.text_field
                if column not in schema.names:
                    column = column.partition(".")[0]
                if column not in schema.names:
                    known = one_line(", ".join(schema.names))
                    raise UserError(
                        f"{path} has no column {self.text_field!r}; its columns are {known}: "
                        "choose one with --text-field"
                    )
                size, rows, seen = path.stat().st_size, file.metadata.num_rows, 0
                for batch in file.iter_batches(batch_size=256, columns=[column]):
                    for value in batch.column(0).to_pylist():
                        seen += 1
                        row = {column: value}
                        yield from self._document((self._field(path, f"row {seen}", row),))
                    self.counts.disk_bytes = start + size * seen // max(rows, 1)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not a readable Parquet file: {one_line(error)}") from error

    def _document(self, blocks: Iterator[str] | tuple[str, ...]) -> Iterator[Piece]:
        """One document's text, in blocks of any length, as pieces."""
        buffer, first = "", True
        for block in blocks:
            buffer = buffer + block if buffer else block
            start = 0
            # More than a piece must be there, so that the last piece is known to be the last.
            while len(buffer) - start > PIECE_CHARACTERS:
                end = safe_cut(buffer, start + PIECE_CHARACTERS)
                yield self._piece(buffer[start:end], first, False)
                start, first = end, False
            if start:
                buffer = buffer[start:]
        if buffer:
            self.counts.documents += 1
            yield self._piece(buffer, first, True)
        else:
            self.counts.empty_documents += 1

    def _piece(self, text: str, first: bool, last: bool) -> Piece:
        if text.isascii():
            num_bytes = len(text)
        else:
            try:
                num_bytes = len(text.encode())
            except UnicodeEncodeError:  # lone surrogates from JSON escapes
                text, replaced = _SURROGATES.subn(_REPLACEMENT, text)
                self.counts.replaced_characters += replaced
                num_bytes = len(text.encode())
        self.counts.text_bytes += num_bytes
        return Piece(text, num_bytes, first, last)


def _decompressed(path: Path, raw: IO[bytes]) -> IO[bytes]:
    """The content of `raw`, by the extension of `path`."""
    openers: dict[str, Callable[[IO[bytes]], Any]] = {
        ".gz": lambda file: gzip.GzipFile(fileobj=file),
        ".bz2": bz2.BZ2File,
        ".xz": lzma.LZMAFile,
        ".zst": lambda file: _zstd().ZstdFile(file),
    }
    opener = openers.get(path.suffix.lower())
    return io.BufferedReader(opener(raw), READ_BYTES) if opener else raw


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _zstd_error() -> type[Exception]:
    error: type[Exception] = _zstd().ZstdError
    return error


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is damaged or cut short: {one_line(error)}; copy or download it again"
    )


def _find_field(record: dict[str, Any], field: str) -> tuple[bool, Any]:
    """The value of a field, by its name or its path (`data.text`), and whether there is one."""
    if field in record:
        return True, record[field]
    value: Any = record
    for name in field.split("."):
        if not isinstance(value, dict) or name not in value:
            return False, None
        value = value[name]
    return True, value


def reading_notes(counts: ReadCounts, inputs: InputSet) -> list[str]:
    """What a pass over the inputs skipped or replaced, as phrases for a person."""
    told = (
        (counts.replaced_characters, "invalid UTF-8 sequence", "replaced by U+FFFD"),
        (counts.binary_files, "binary file", "skipped"),
        (counts.empty_documents, "empty document", "skipped"),
        (inputs.other_extensions, "file", "without a known text extension skipped"),
        (inputs.own_files, "file", "of tokens, tokenizers or models skipped"),
        (inputs.own_folders, "folder", "of runs or checkpoints skipped"),
    )
    return [f"{plural(number, noun)} {what}" for number, noun, what in told if number]


def _json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "null" if value is None else "an object")
