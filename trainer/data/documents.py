"""Files as a stream of documents, never held in memory.

A file is one document, or one per record for JSON Lines and Parquet. A document arrives as one
or more `Piece`s of at most `PIECE_CHARACTERS`, so a file larger than memory streams like any
other. A piece ends between a letter or digit and the space or newline after it: the split
patterns of GPT-2, Qwen2, Llama 3 and their kin never put such a pair into one token, so the
cut changes no token. Where a stretch has no such place the cut falls anywhere, which costs one
token its best merge and loses nothing.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from shared.errors import UserError
from shared.text import one_line
from trainer.data.bad_records import BadRecord, BadRecordError, OnBad, Report
from trainer.data.compressed import damages, opened
from trainer.data.encodings import (
    DEFAULT,
    READ_BYTES,
    REPLACEMENT,
    bad_lines,
    decoded,
    is_ascii_based,
    mark_of,
    text_lines,
    unmarked,
)
from trainer.data.inputs import (
    RECORD_EXTENSIONS,
    TABLE_EXTENSIONS,
    InputFile,
    extension_of,
)
from trainer.data.read_counts import ReadCounts
from trainer.data.records import parse_record, text_of
from trainer.data.stretch import lines_before, open_stretch

PIECE_CHARACTERS = 64 * 1024
CUT_WINDOW = 4096  # characters searched backwards for a cut that changes no token
BINARY_PROBE_BYTES = 8192

_SAFE_CUT = re.compile(r".*[^\W_](?=[ \n])", re.DOTALL)
_SURROGATES = re.compile("[\ud800-\udfff]")

_T = TypeVar("_T")


class Piece(NamedTuple):
    """A part of a document: `num_bytes` is its length as UTF-8."""

    text: str
    num_bytes: int
    first: bool
    last: bool


class Record(NamedTuple):
    """A record, and its place in its file, such as `line 5`."""

    path: Path
    place: str
    content: dict[str, Any]


def safe_cut(text: str, limit: int, window: int = CUT_WINDOW) -> int:
    """The largest index ≤ `limit` where `text` can be cut without changing its tokens.

    `limit` itself when there is no such place in the `window` characters before it.
    """
    start = max(0, limit - window)
    match = _SAFE_CUT.match(text, start, min(len(text), limit + 1))
    return match.end() if match else limit


class DocumentReader:
    """One pass over the documents of `files`, as pieces, in a fixed order.

    Text is UTF-8, or in `encoding`; a byte order mark is obeyed and dropped. `on_bad` says what
    happens to bytes that are not text, and to records and files that cannot be read; `report` lists
    them, and `skipping` is the command that leaves records out. Documents whose numbers are in
    `leave_out` give no piece: they count from 1, empty ones not. Binary files (a NUL byte near the
    start) are skipped and counted, or refused when named.
    Empty documents are counted and give no piece. Every problem is a UserError that names the file.
    """

    def __init__(
        self,
        files: Sequence[InputFile],
        text_field: str = "text",
        *,
        encoding: str = DEFAULT,
        on_bad: OnBad = "replace",
        skipping: str = "trainer prepare-data --skip-bad",
        leave_out: frozenset[int] = frozenset(),
    ) -> None:
        self.files = files
        self.text_field = text_field
        self.encoding = encoding
        self.on_bad = on_bad
        self.skipping = skipping
        self.leave_out = leave_out
        self.counts = ReadCounts()
        self.report = Report()
        self._lines_before: Callable[[], int] = _none

    def __iter__(self) -> Iterator[Piece]:
        if not self.leave_out:
            return self._through(self._texts_of_table, self._read_file)
        return (piece for number, piece in self.numbered() if self._is_kept(number, piece))

    def numbered(self) -> Iterator[tuple[int, Piece]]:
        """Every piece with the number of its document, from 1; those of `leave_out` too."""
        number = 0
        for piece in self._through(self._texts_of_table, self._read_file):
            number += piece.first
            yield number, piece

    def _is_kept(self, number: int, piece: Piece) -> bool:
        """Whether a document is not left out. One that is does not count among the documents."""
        if number not in self.leave_out:
            return True
        self.counts.left_out += piece.first
        self.counts.documents -= piece.first
        self.counts.text_bytes -= piece.num_bytes
        return False

    def records(self, fields: Sequence[str]) -> Iterator[Record]:
        """One pass over the records themselves; of tables, the columns `fields`. What is wrong with
        one is for `refuse`. Raises UserError for a file that is not of records.
        """
        for file in self.files:
            if extension_of(file.path) not in RECORD_EXTENSIONS | TABLE_EXTENSIONS:
                raise UserError(
                    f"{file.path} is not a file of records: give JSON Lines (.jsonl) or Parquet"
                )
        return self._through(lambda file: self._rows(file, fields), self._records_of_file)

    def refuse(self, record: Record, problem: str) -> None:
        """Leave out a record and report it, or raise UserError, as `on_bad` says."""
        error = BadRecordError(problem)
        self._bad_record(record.path, record.place, problem, error)

    def _through(
        self,
        read_table: Callable[[InputFile], Iterator[_T]],
        read_file: Callable[[InputFile, IO[bytes]], Iterator[_T]],
    ) -> Iterator[_T]:
        self.counts = ReadCounts()
        self.report = Report()
        finished = 0
        for file in self.files:
            self._lines_before = cache(partial(lines_before, file.path, file.start))
            try:
                if extension_of(file.path) in TABLE_EXTENSIONS:
                    yield from read_table(file)
                else:
                    with open_stretch(file) as raw:
                        for piece in read_file(file, raw):
                            self.counts.disk_bytes = finished + raw.tell()
                            yield piece
            except OSError as error:
                if error.errno is None:  # what gzip and bz2 raise for bytes that are not theirs
                    raise _damaged(file.path, error) from error
                raise UserError(f"cannot read {file.path}: {one_line(error.strerror)}") from error
            except damages() as error:
                raise _damaged(file.path, error) from error
            finished += file.size
            self.counts.disk_bytes = finished

    def _opened(self, file: InputFile, raw: IO[bytes]) -> IO[bytes]:
        """The content of a file, decompressed."""

        def damaged(error: Exception) -> None:
            problem = f"is damaged or cut short: {one_line(error)}; the rest is left out"
            self._skipped(file.path, "", problem)

        return opened(file.path, raw, damaged if self.on_bad == "skip" else None)

    def _records_of_file(self, file: InputFile, raw: IO[bytes]) -> Iterator[Record]:
        yield from self._json_records(file, self._opened(file, raw))

    def _read_file(self, file: InputFile, raw: IO[bytes]) -> Iterator[Piece]:
        if extension_of(file.path) in RECORD_EXTENSIONS:
            for record in self._records_of_file(file, raw):
                yield from self._text(record)
            return
        stream = self._opened(file, raw)
        block = stream.read(READ_BYTES)
        encoding, mark = self._encoding_of(block) if not file.start else (self.encoding, 0)
        if (
            not file.start
            and not mark
            and is_ascii_based(encoding)
            and b"\0" in block[:BINARY_PROBE_BYTES]
        ):
            self._not_text(file, block[:BINARY_PROBE_BYTES])
            return
        bad = partial(self._bad_bytes, file.path)
        text = decoded(block[mark:], stream, encoding, bad)
        yield from self._document(text, begins=not file.start, ends=file.ends)

    def _encoding_of(self, block: bytes) -> tuple[str, int]:
        """The encoding of a file that begins with `block`, and the length of its mark."""
        encoding, mark = mark_of(block) or (self.encoding, 0)
        if encoding != self.encoding:
            self.counts.marked[encoding.upper()] += 1
        return encoding, mark

    def _not_text(self, file: InputFile, block: bytes) -> None:
        guess = unmarked(block)
        problem = (
            f"looks like {guess.upper()} without a byte order mark: give --encoding {guess}"
            if guess
            else "is not text: it has a NUL byte near its start"
        )
        if self.on_bad == "skip" and (file.named or guess):
            self._skipped(file.path, "", problem)
        elif guess:
            raise UserError(f"{file.path} {problem}")
        elif file.named:
            raise UserError(f"{file.path} {problem}; give text, JSON Lines or Parquet files")
        else:
            self.counts.binary_files += 1

    def _bad_bytes(self, path: Path, line: int, count: int, error: UnicodeDecodeError) -> None:
        """Bytes that are not text became U+FFFD in a line."""
        line += self._lines_before()
        found = error.object[error.start : error.end][:8].hex(" ").upper()
        problem = f"is not {error.encoding.upper()}: it has the bytes {found}"
        if self.on_bad == "refuse":
            raise UserError(
                f"{path} line {line} {problem}; `trainer prepare-data` takes other encodings with "
                "--encoding, such as cp1252, and replaces such bytes with --skip-bad"
            )
        self.counts.replaced_characters += count
        shown = problem if count == 1 else f"{problem} and {count - 1} more that are not"
        self.report.add(BadRecord(path, f"line {line}", "replaced", shown))

    def _text(self, record: Record) -> Iterator[Piece]:
        try:
            text = text_of(record.content, self.text_field)
        except BadRecordError as error:
            self._bad_record(record.path, record.place, str(error), error)
        else:
            yield from self._document((text,))

    def _json_records(self, file: InputFile, stream: IO[bytes]) -> Iterator[Record]:
        path = file.path
        for number, line in enumerate(self._lines(file, stream), 1):
            if not line or line.isspace():
                continue
            place = f"line {number}"
            try:
                record, mended = parse_record(line, self.text_field)
                if mended and isinstance(line, bytes) and self._has_bad_bytes(path, number, line):
                    mended = ""
            except BadRecordError as error:
                self._bad_record(path, place, str(error), error)
                continue
            if mended:
                self.report.add(BadRecord(path, self._in_file(place), "mended", mended))
            yield Record(path, place, record)

    def _lines(self, file: InputFile, stream: IO[bytes]) -> Iterator[bytes | str]:
        """The lines of a file: as bytes where they are UTF-8."""
        block = stream.read(len(codecs.BOM_UTF32_LE))
        encoding, mark = self._encoding_of(block) if not file.start else (self.encoding, 0)
        block = block[mark:]
        if encoding == DEFAULT:
            rest = stream.readline() if not block.endswith(b"\n") else b""
            yield from io.BytesIO(block + rest)
            yield from stream
        else:
            bad = partial(self._bad_bytes, file.path)
            block += stream.read(READ_BYTES)
            yield from text_lines(decoded(block, stream, encoding, bad))

    def _has_bad_bytes(self, path: Path, number: int, line: bytes) -> bool:
        found = list(bad_lines(line, DEFAULT))
        for _, count, error in found:
            self._bad_bytes(path, number, count, error)
        return bool(found)

    def _in_file(self, place: str) -> str:
        """The `line N` of a stretch as that of its file."""
        kind, _, number = place.partition(" ")
        return f"line {int(number) + self._lines_before()}" if kind == "line" else place

    def _bad_record(self, path: Path, place: str, problem: str, error: Exception) -> None:
        place = self._in_file(place)
        if self.on_bad == "skip":
            self._skipped(path, place, problem)
            return
        colon = "" if problem.startswith(":") else " "
        remedy = f"; `{self.skipping}` leaves such records out"
        remedy = remedy if self.on_bad == "refuse" else ""
        raise UserError(f"{path} {place}{colon}{problem}{remedy}") from error

    def _skipped(self, path: Path, place: str, problem: str) -> None:
        self.report.add(BadRecord(path, place, "skipped", problem))

    def _texts_of_table(self, file: InputFile) -> Iterator[Piece]:
        for record in self._rows(file, None):
            yield from self._text(record)

    def _rows(self, table: InputFile, fields: Sequence[str] | None) -> Iterator[Record]:
        """The rows of a table: those of the columns `fields` that it has, or the one with text."""
        path = table.path
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
                names = file.schema_arrow.names
                columns = [self._column(names)] if fields is None else names
                columns = [name for name in columns if fields is None or name in fields]
                if not columns:
                    raise BadRecordError(
                        f"has none of the columns {', '.join(fields or ())}; its columns are "
                        f"{one_line(', '.join(names))}"
                    )
                lengths = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
                groups = range(len(lengths))[table.start : table.stop]
                before, rows, seen = sum(lengths[: table.start]), sum(lengths[i] for i in groups), 0
                for batch in file.iter_batches(256, row_groups=list(groups), columns=columns):
                    for row in batch.to_pylist():
                        seen += 1
                        yield Record(path, f"row {before + seen}", row)
                    self.counts.disk_bytes = start + table.size * seen // max(rows, 1)
        except BadRecordError as error:
            self._bad_file(path, str(error), error)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            self._bad_file(path, f"is not a readable Parquet file: {one_line(error)}", error)

    def _column(self, names: Sequence[str]) -> str:
        """The column with the text."""
        for name in (self.text_field, self.text_field.partition(".")[0]):
            if name in names:
                return name
        raise BadRecordError(
            f"has no column {self.text_field!r}; its columns are {one_line(', '.join(names))}: "
            "choose one with --text-field"
        )

    def _bad_file(self, path: Path, problem: str, error: Exception) -> None:
        if self.on_bad != "skip":
            raise UserError(f"{path} {problem}") from error
        self._skipped(path, "", problem)

    def _document(
        self, blocks: Iterator[str] | tuple[str, ...], *, begins: bool = True, ends: bool = True
    ) -> Iterator[Piece]:
        """One document's text, in blocks of any length, as pieces.

        It counts where it `begins`, and has its last piece where it `ends`.
        """
        buffer, first = "", begins
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
            self.counts.documents += begins
            yield self._piece(buffer, first, ends)
        elif begins and ends:
            self.counts.empty_documents += 1

    def _piece(self, text: str, first: bool, last: bool) -> Piece:
        if text.isascii():
            num_bytes = len(text)
        else:
            try:
                num_bytes = len(text.encode())
            except UnicodeEncodeError:  # lone surrogates from JSON escapes
                text, replaced = _SURROGATES.subn(REPLACEMENT, text)
                self.counts.replaced_characters += replaced
                num_bytes = len(text.encode())
        self.counts.text_bytes += num_bytes
        return Piece(text, num_bytes, first, last)


def _none() -> int:
    return 0


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is damaged or cut short: {one_line(error)}; copy or download it again"
    )
