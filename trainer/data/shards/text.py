"""Text in shards: what a process does with its part of the documents."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shared.errors import RunError
from trainer.data.documents import DocumentReader, Piece
from trainer.data.inputs import RECORD_EXTENSIONS, TABLE_EXTENSIONS, InputFile, extension_of
from trainer.data.outputs import TokenWriter
from trainer.data.prepare import PrepareSettings, Replaced, batches_of
from trainer.data.shards.worker import Survey as Surveyed
from trainer.data.shards.worker import serve
from trainer.data.split import (
    BLOCK_CUT_WINDOW,
    TRAIN,
    SplitPlan,
    Survey,
    divide,
    side_at,
    side_of_document,
)
from trainer.data.tokenizer import Tokenizer

#: Of text, encoded together by one thread: encodings take about 30 times as much.
BATCH_BYTES = 1024 * 1024

Update = Callable[[int], None]


class TextMaker:
    """Reads and encodes documents with the settings of a whole set."""

    masks = False

    def __init__(self, settings: PrepareSettings, tokenizer: Tokenizer) -> None:
        self._settings = settings
        self._tokenizer = tokenizer

    def survey(self, files: list[InputFile], place: Path, update: Update) -> Surveyed:
        """Count the documents and those that would be for validation."""
        settings = self._settings
        reader = self._reader(files)
        found = Replaced(self._tokenizer, settings.replace)
        survey = Survey(settings.val_split, settings.seed, side=self._side(files))
        done, reach = 0, None if _goes_on(files) else 0
        for piece in survey.watch(found.through(reader)):
            reach = _reach(piece.text) if reach is None else reach
            done += piece.num_bytes
            if done >= BATCH_BYTES:
                update(reader.counts.disk_bytes)
                done = 0
        counted = {
            "documents": survey.documents,
            "text_bytes": survey.text_bytes,
            "validation_documents": survey.validation_documents,
            "validation_bytes": survey.validation_bytes,
            "reach": reach or 0,
        }
        return counted | found.told(), reader

    def encode(
        self,
        files: list[InputFile],
        facts: Mapping[str, Any],
        writers: dict[int, TokenWriter],
        update: Update,
    ) -> dict[str, Any]:
        """Write the tokens of both sides."""
        tokenizer, settings = self._tokenizer, self._settings
        plan = SplitPlan(
            facts["rule"], settings.val_split, settings.seed, tuple(facts["boundaries"])
        )
        position, side = int(facts["position"]), self._side(files)
        if _goes_on(files):
            _enter(writers, plan, position, side)
        reader = self._reader(files)
        pieces = Replaced(tokenizer, settings.replace).through(reader)
        begin = np.array(tokenizer.begin_ids, dtype=np.uint32)
        end = np.array([tokenizer.eos_id], dtype=np.uint32)
        done = 0
        for batch in batches_of(divide(pieces, plan, position=position, side=side), BATCH_BYTES):
            arrays = tokenizer.encode_arrays([part.text for part in batch])
            for part, ids in zip(batch, arrays, strict=True):
                writers[part.side].add(part, ids, begin=begin, end=end)
                done += part.num_bytes
            for writer in writers.values():
                writer.flush()
            update(done)
        if done != facts["text_bytes"] or reader.counts.documents != facts["documents"]:
            raise RunError(
                f"the input changed while it was read ({facts['text_bytes']} bytes of text in a "
                f"shard, then {done}): run the same command again when it no longer changes"
            )
        return {}

    def _reader(self, files: list[InputFile]) -> DocumentReader:
        return self._settings.reader_of(files)

    def _side(self, files: list[InputFile]) -> int:
        """The side of a document that began in the shard before."""
        if not _goes_on(files):
            return TRAIN
        whole = replace(files[0], start=0, stop=None, ends=True)
        pieces: Iterable[Piece] = self._reader([whole])
        pieces = Replaced(self._tokenizer, self._settings.replace).through(pieces)
        beginning = next(iter(pieces)).text
        return side_of_document(beginning, self._settings.val_split, self._settings.seed)


def _goes_on(files: list[InputFile]) -> bool:
    """Whether the first file is the rest of a document."""
    first = files[0]
    of_records = extension_of(first.path) in RECORD_EXTENSIONS | TABLE_EXTENSIONS
    return first.start > 0 and not of_records


def _reach(text: str) -> int:
    """In how many bytes after its beginning a boundary would be put at the beginning, where the
    text goes on from before: the nearest place to cut at is there."""
    head = text[:BLOCK_CUT_WINDOW]
    word = re.search(r"[^\W_](?=[ \n])", head)
    return len(head[: word.end() if word else None].encode())


def _enter(writers: dict[int, TokenWriter], plan: SplitPlan, position: int, side: int) -> None:
    """Let the writer of a document that goes on know that it has begun."""
    if plan.rule == "blocks":
        if position in plan.boundaries:  # where it was cut in two
            return
        side = side_at(plan.boundaries, position)
    writers[side if plan.rule != "none" else TRAIN].within = True


def make(settings: dict[str, Any]) -> TextMaker:
    """The maker of these settings."""
    own = {key: value for key, value in settings.items() if key != "tokenizer_folder"}
    return TextMaker(PrepareSettings(**own), Tokenizer.load(settings["tokenizer_folder"]))


if __name__ == "__main__":
    sys.exit(serve(make))
