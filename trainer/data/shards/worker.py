"""What a process that makes shards does: survey, encode or verify one shard after the other.

It ends when its standard input ends, or when nobody reads what it says.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from shared.checkpoints.manifest import file_sha256
from shared.errors import RunError, UserError
from shared.files import fsync_directory, replace_file
from trainer.data.documents import DocumentReader
from trainer.data.file_set import NO_SPACE
from trainer.data.inputs import InputFile
from trainer.data.marks import SUFFIX as MASK
from trainer.data.outputs import TokenWriter
from trainer.data.shards.manifest import SPOT_BLOCKS, Shard
from trainer.data.shards.records import (
    MARKER,
    VALIDATION_PART,
    counts_to_plain,
    read_record,
    report_to_plain,
)
from trainer.data.split import TRAIN, VALIDATION
from trainer.data.tokens import Sidecar, fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

Update = Callable[[int], None]


class Maker(Protocol):
    """Reads and encodes one kind of input."""

    #: Whether there are mask files.
    masks: bool

    def survey(self, files: list[InputFile], place: Path, update: Update) -> Survey:
        """Count what is in the files of a shard; `place` is where more may be written."""

    def encode(
        self,
        files: list[InputFile],
        facts: Mapping[str, Any],
        writers: dict[int, TokenWriter],
        update: Update,
    ) -> dict[str, Any]:
        """Write the tokens of a shard; returns what the caller wants to know about them.

        Raises RunError if the files no longer hold what was counted.
        """


Survey = tuple[dict[str, Any], DocumentReader]
"""What was counted, and the reader that read it."""


def serve(make: Callable[[dict[str, Any]], Maker]) -> int:
    """Do the tasks on standard input, for the maker of the settings on its first line."""
    out = sys.stdout

    def say(message: dict[str, Any]) -> None:
        try:
            print(json.dumps(message), file=out, flush=True)
        except OSError:  # the command was killed
            os._exit(1)

    settings = json.loads(sys.stdin.readline() or "{}")
    maker: Maker | None = None
    for line in sys.stdin:
        try:
            maker = maker or make(settings)
            say(perform(maker, json.loads(line), lambda done: say({"progress": done})))
        except UserError as error:
            say({"error": str(error), "run": isinstance(error, RunError)})
        except MemoryError:
            say({"error": "not enough memory: run again with fewer --workers", "run": True})
    return 0


def perform(maker: Maker, task: dict[str, Any], update: Update) -> dict[str, Any]:
    """Do a task; returns its result. Raises UserError or RunError."""
    try:
        return _do(maker, task, update)
    except OSError as error:
        if error.errno not in NO_SPACE:
            told = f"cannot write {error.filename or 'the shards'}: {error.strerror or error}"
            raise UserError(told) from error
        raise RunError(
            "no space left for the shards: those that are finished are kept; free some space "
            "(tokens take about as many bytes as their text) and run the same command again"
        ) from error


def _do(maker: Maker, task: dict[str, Any], update: Update) -> dict[str, Any]:
    place = Path(task["place"])
    if task["do"] == "verify":
        return {"sound": is_sound(place, validation=task["validation"])}
    files = [input_file(entry) for entry in task["files"]]
    if task["do"] == "survey":
        found, reader = maker.survey(files, place, update)
        counts = counts_to_plain(reader.counts)
        return found | {"counts": counts, "report": report_to_plain(reader.report)}
    return _encode(maker, place, files, task, update)


def _encode(
    maker: Maker, place: Path, files: list[InputFile], task: dict[str, Any], update: Update
) -> dict[str, Any]:
    """Make the files of the shard at `place`, and last what marks it as finished."""
    with contextlib.ExitStack() as stack:
        parts = {TRAIN: place, VALIDATION: place.with_suffix(VALIDATION_PART)}
        sinks: dict[int, list[_Sink]] = {}
        writers: dict[int, TokenWriter] = {}
        for side, path in parts.items():
            sinks[side] = [stack.enter_context(_Sink(path))]
            if maker.masks:
                sinks[side].append(stack.enter_context(_Sink(mask_of(path))))
            tokens, *mask = (cast("IO[bytes]", sink) for sink in sinks[side])
            writers[side] = TokenWriter(path, tokens, mask[0] if mask else None)
        told = maker.encode(files, task["facts"], writers, update)
        for each in sinks.values():
            for sink in each:
                sink.finish()
        fsync_directory(place.parent)
    train, val = (
        _described(parts[side], writers[side], sinks[side]) for side in (TRAIN, VALIDATION)
    )
    stream = Sidecar(**task["sidecar"])
    sidecar = replace(
        stream,
        num_tokens=train.tokens,
        num_documents=train.documents,
        text_bytes=train.text_bytes,
        counted_tokens=train.counted_tokens,
        longest=train.longest,
        fingerprint=fingerprint(place),
        mask=fingerprint(mask_of(place)) if maker.masks else "",
    )
    found = {"shard": asdict(train), "val": asdict(val), "told": told}
    data = json.dumps(sidecar.to_plain() | found, indent=2).encode() + b"\n"
    replace_file(place.with_name(place.name + MARKER), data)
    return found


def mask_of(path: Path) -> Path:
    """The mask file of a part: `00000.mask` of `00000.bin`, `00000.val.mask` of `00000.val`."""
    return path.with_suffix(MASK) if path.suffix == ".bin" else path.with_name(path.name + MASK)


def _described(path: Path, writer: TokenWriter, sinks: list[_Sink]) -> Shard:
    tokens, *mask = sinks
    return Shard(
        file=path.name,
        bytes=tokens.size,
        tokens=writer.num_tokens,
        documents=writer.num_documents,
        text_bytes=writer.text_bytes,
        largest=tokens.largest,
        sha256=tokens.digest.hexdigest(),
        spot=fingerprint(path, SPOT_BLOCKS),
        counted_tokens=writer.counted,
        longest=writer.longest,
        mask_sha256=mask[0].digest.hexdigest() if mask else "",
        mask_spot=fingerprint(mask_of(path), SPOT_BLOCKS) if mask else "",
    )


class _Sink:
    """A file that is checksummed while it is written, and in place when it is finished."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        self._file = self._partial.open("wb")
        self._whole_ids = path.suffix != MASK
        self.digest = hashlib.sha256()
        self.size = 0
        self.largest = 0

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError):  # closing tries again what did not fit
            self._file.close()
        with contextlib.suppress(OSError):
            self._partial.unlink()

    def write(self, data: memoryview) -> None:
        """Write `data`, whole tokens or marks."""
        self._file.write(data)
        self.digest.update(data)
        self.size += data.nbytes
        if self._whole_ids and data.nbytes:
            self.largest = max(self.largest, int(np.frombuffer(data, dtype="<u4").max()))

    def finish(self) -> None:
        """Make it durable and put it in place."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._path)


def is_sound(place: Path, *, validation: bool) -> bool:
    """Whether the shard at `place` is finished and its files are those that were written; with
    `validation` its part of the validation tokens is still needed, too."""
    record = read_record(place)
    if record is None:
        return False
    parts = [(place, record[0])]
    if validation:
        parts.append((place.with_suffix(VALIDATION_PART), record[1]))
    for path, shard in parts:
        for file, expected in ((path, shard.sha256), (mask_of(path), shard.mask_sha256)):
            try:
                if expected and file_sha256(file) != expected:
                    return False
            except OSError:
                return False
    return True


def input_file(entry: list[Any]) -> InputFile:
    """An input file from a task."""
    path, *rest = entry
    return InputFile(Path(os.fsdecode(bytes.fromhex(path))), *rest)


def input_entry(file: InputFile) -> list[Any]:
    """An input file for a task. A path need not be UTF-8."""
    path = os.fsencode(file.path).hex()
    return [path, file.size, file.named, file.start, file.stop, file.ends]
