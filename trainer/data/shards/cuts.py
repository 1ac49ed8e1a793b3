"""Which part of the inputs each shard is made from: stretches of about the same number of bytes.

A pure function of the files and the number of shards. The order stays, so the shards one after the
other are the tokens that one process would write. Plain files of records are cut between lines,
tables between row groups, plain UTF-8 text between words; compressed files, and text in other
encodings, stay whole.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

from shared.errors import UserError
from shared.text import one_line
from trainer.data.documents import BINARY_PROBE_BYTES
from trainer.data.encodings import DEFAULT, READ_BYTES, mark_of
from trainer.data.inputs import (
    COMPRESSIONS,
    RECORD_EXTENSIONS,
    TABLE_EXTENSIONS,
    InputFile,
    extension_of,
)

Place = tuple[int, int]
"""A file by its number, and a place in it: bytes, or row groups of a table."""

_TEXT_WINDOW = 64 * 1024
_SAFE = re.compile(rb"[0-9A-Za-z](?=[ \n])")
_SAFE_IN_ANY_SCRIPT = re.compile(r"[^\W_](?=[ \n])")


def divide(files: Sequence[InputFile], count: int, encoding: str) -> list[list[InputFile]]:
    """The files, or stretches of them, of at most `count` parts, none of them empty.

    There are fewer parts where the files cannot be cut so often. Raises UserError for a file that
    cannot be read.
    """
    ends = list(accumulate(file.size for file in files))
    total = ends[-1]
    places: list[Place] = [(0, 0)]
    for number in range(1, count):
        target = total * number // count
        index = min(bisect_right(ends, target), len(files) - 1)
        offset = target - (ends[index] - files[index].size)
        try:
            place = _snapped(files, index, offset, encoding)
        except OSError as error:
            raise UserError(f"cannot read {files[index].path}: {error.strerror}") from error
        if place > places[-1]:
            places.append(place)
    end = (len(files), 0)
    places = [place for place in places if place < end]
    return [_between(files, start, stop) for start, stop in pairwise([*places, end])]


def _between(files: Sequence[InputFile], start: Place, stop: Place) -> list[InputFile]:
    found = []
    for index in range(start[0], stop[0] + (stop[1] > 0)):
        first = start[1] if index == start[0] else 0
        last = stop[1] if index == stop[0] else None
        file = files[index]
        if first or last is not None:
            file = replace(file, start=first, stop=last, ends=last is None)
            file = replace(file, size=_size_of(file))
        found.append(file)
    return found


def _size_of(file: InputFile) -> int:
    """The bytes of a stretch."""
    if extension_of(file.path) in TABLE_EXTENSIONS:
        sizes = _row_groups(file.path)
        return sum(sizes[file.start : file.stop])
    return (file.size if file.stop is None else file.stop) - file.start


def _snapped(files: Sequence[InputFile], index: int, offset: int, encoding: str) -> Place:
    """The place nearest to `offset` in a file where it may be cut, or one of its ends."""
    file = files[index]
    kind = extension_of(file.path)
    after = (index + 1, 0)
    if kind in TABLE_EXTENSIONS:
        return _in_table(file, index, offset)
    if 0 < offset < file.size and _is_plain(file, encoding):
        find = _line_start if kind in RECORD_EXTENSIONS else _word_end
        place = find(file.path, offset)
        return (index, place) if place < file.size else after
    return (index, 0) if offset < file.size / 2 else after


def _is_plain(file: InputFile, encoding: str) -> bool:
    """Whether lines or words of a file can be found in its bytes."""
    if file.path.suffix.lower() in COMPRESSIONS or encoding != DEFAULT:
        return False
    with file.path.open("rb") as stream:
        head = stream.read(BINARY_PROBE_BYTES)
    marked = mark_of(head)
    if marked is not None:
        return marked[0] == DEFAULT
    return extension_of(file.path) in RECORD_EXTENSIONS or b"\0" not in head


def _line_start(path: Path, offset: int) -> int:
    """Where the first line begins at `offset` or later; the end of the file if none does."""
    with path.open("rb") as file:
        file.seek(offset - 1)
        while block := file.read(READ_BYTES):
            place = block.find(b"\n")
            if place >= 0:
                return file.tell() - len(block) + place + 1
        return file.tell()


def _word_end(path: Path, offset: int) -> int:
    """Where a word ends at `offset` or soon after, so that a cut changes no token; else where a
    character ends."""
    with path.open("rb") as file:
        file.seek(offset)
        block = file.read(_TEXT_WINDOW)
    aligned = next((i for i, byte in enumerate(block) if byte & 0xC0 != 0x80), len(block))
    if found := _SAFE.search(block, aligned):
        return offset + found.end()
    text = block[aligned:].decode("utf-8", "ignore")
    whole = text.encode()
    if block[aligned:].startswith(whole) and (word := _SAFE_IN_ANY_SCRIPT.search(text)):
        return offset + aligned + len(text[: word.end()].encode())
    return offset + (aligned if len(block) == _TEXT_WINDOW else len(block))


def _in_table(file: InputFile, index: int, offset: int) -> Place:
    ends = list(accumulate(_row_groups(file.path)))
    if not ends or not ends[-1]:
        return (index, 0) if offset < file.size / 2 else (index + 1, 0)
    wanted = offset * ends[-1] // max(file.size, 1)
    group = bisect_right(ends, wanted)
    begin = ends[group - 1] if group else 0
    if group < len(ends) and wanted - begin > ends[group] - wanted:
        group += 1
    return (index, group) if group < len(ends) else (index + 1, 0)


def _row_groups(path: Path) -> list[int]:
    """The bytes of each row group of a table; none for a file that is not a table."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError(
            f"reading {one_line(path)} needs pyarrow: pip install 'train-monitor[parquet]'"
        ) from error
    try:
        metadata = pq.read_metadata(path)
    except pa.ArrowException:
        return []  # told when it is read
    return [
        sum(
            metadata.row_group(i).column(c).total_compressed_size
            for c in range(metadata.num_columns)
        )
        for i in range(metadata.num_row_groups)
    ]
