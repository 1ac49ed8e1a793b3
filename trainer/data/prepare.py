"""Text to token files: survey, tokenizer, split, encode, and only then replace what was there.

The inputs are read twice, once to count (and to train the tokenizer) and once to encode, and
are never held: memory depends on the number of cores, not on the input.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.errors import RunError, UserError
from shared.text import one_line, plural
from trainer.data.bad_records import Report
from trainer.data.commit import Prepared, Split, commit, refuse_to_replace
from trainer.data.documents import DocumentReader, Piece
from trainer.data.encodings import DEFAULT, find_encoding
from trainer.data.file_set import FileSet
from trainer.data.inputs import InputFile, InputSet, find_inputs
from trainer.data.outputs import TokenWriter, open_writers, plan_targets
from trainer.data.progress import ProgressFactory, silent
from trainer.data.read_counts import ReadCounts, reading_notes
from trainer.data.split import Part, SplitPlan, Survey, check_val_split, divide, plan_split
from trainer.data.tokenizer import Charset, Kind, Tokenizer, outside_message
from trainer.data.tokenizer_training import (
    DEFAULT_VOCAB_SIZE,
    check_settings,
    train_tokenizer,
    vocabulary_notes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENCODING_BATCHES = 2
# Encodings take about 30 times the bytes of their text in memory.
BATCH_BYTES = min(max(256 * 1024 * (os.cpu_count() or 1), 512 * 1024), 8 * 1024 * 1024)
BATCH_PARTS = 8192


@dataclass(frozen=True)
class PrepareSettings:
    """What to prepare and how. `output` is a directory, or a `.bin` file for the training side.

    `tokenizer` (file or directory) or `vocab` with `merges` use an existing tokenizer;
    otherwise one is trained on the text, with `vocab_size` tokens (4096 when None). `skip_bad`
    replaces bytes that are not text and leaves out records that cannot be read, with a report.
    `leave_out` are the numbers of documents to leave out, as `DocumentReader` counts them.
    """

    inputs: Sequence[str]
    output: str
    val_output: str | None = None
    val_split: float = 0.05
    vocab_size: int | None = None
    tokenizer: str | None = None
    vocab: str | None = None
    merges: str | None = None
    kind: Kind = "bpe"
    charset: Charset = "bytes"
    min_frequency: int = 2
    replace: bool = False
    text_field: str = "text"
    encoding: str = DEFAULT
    skip_bad: bool = False
    seed: int = 0
    overwrite: bool = False
    leave_out: frozenset[int] = frozenset()

    def reader(self, inputs: InputSet) -> DocumentReader:
        """A pass over the documents."""
        return self.reader_of(inputs.files)

    def reader_of(self, files: Sequence[InputFile]) -> DocumentReader:
        """A pass over the documents of some of the files."""
        return DocumentReader(
            files,
            self.text_field,
            encoding=find_encoding(self.encoding),
            on_bad="skip" if self.skip_bad else "refuse",
            leave_out=self.leave_out,
        )


def prepare(
    settings: PrepareSettings,
    progress: ProgressFactory = silent,
    *,
    batch_bytes: int = BATCH_BYTES,
) -> Prepared:
    """Turn text into `train.bin`, `val.bin`, their sidecars and the tokenizer's files.

    The same inputs and settings give the same bytes on any machine. Raises UserError for wrong
    use, before anything is changed, and RunError when the disk is full or an input changes
    between the two passes. `batch_bytes` of text are encoded together.
    """
    check_settings_of(settings)
    targets = plan_targets(settings.output, settings.val_output)
    tokenizer = given_tokenizer(settings)
    refuse_to_replace(targets, tokenizer, overwrite=settings.overwrite)
    exclude = {path.resolve() for path in targets.files}
    inputs = find_inputs(settings.inputs, exclude)
    with FileSet() as files, open_writers(targets, files) as writers:
        tokenizer, survey, report, notes = _survey(settings, inputs, tokenizer, progress)
        plan = plan_split(survey)
        _encode(
            settings=settings,
            inputs=inputs,
            tokenizer=tokenizer,
            survey=survey,
            plan=plan,
            writers=writers,
            progress=progress,
            batch_bytes=batch_bytes,
        )
        return commit(
            targets=targets,
            tokenizer=tokenizer,
            split=Split(plan.rule, settings.val_split, settings.seed),
            writers=writers,
            files=files,
            report=report if settings.skip_bad else None,
            overwrite=settings.overwrite,
            notes=notes,
        )


def encode_parts(
    tokenizer: Tokenizer, parts: Iterable[Part], batch_bytes: int = BATCH_BYTES
) -> Iterator[list[tuple[Part, NDArray[np.uint32]]]]:
    """Parts with their ids, in order, in batches.

    The encoder always has two batches, so its threads have work while the last piece of one is
    still running and while the results of another are written.
    """
    running: deque[tuple[list[Part], Future[list[NDArray[np.uint32]]]]] = deque()
    pool = ThreadPoolExecutor(ENCODING_BATCHES, thread_name_prefix="encode")
    try:
        for batch in batches_of(parts, batch_bytes):
            running.append((batch, pool.submit(tokenizer.encode_arrays, [p.text for p in batch])))
            if len(running) > ENCODING_BATCHES:
                done, arrays = running.popleft()
                yield list(zip(done, arrays.result(), strict=True))
        for done, arrays in running:
            yield list(zip(done, arrays.result(), strict=True))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for a batch


def batches_of(parts: Iterable[Part], batch_bytes: int = BATCH_BYTES) -> Iterator[list[Part]]:
    """Parts that are encoded together."""
    batch: list[Part] = []
    size = 0
    for part in parts:
        batch.append(part)
        size += part.num_bytes
        if size >= batch_bytes or len(batch) >= BATCH_PARTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


# Before reading anything


def check_settings_of(settings: PrepareSettings) -> None:
    """Raise UserError for settings that cannot be met, before anything is read."""
    find_encoding(settings.encoding)
    check_val_split(settings.val_split, "the text")
    if (settings.vocab is None) != (settings.merges is None):
        missing = "--merges" if settings.merges is None else "--vocab"
        raise UserError(f"--vocab and --merges go together: {missing} is missing")
    if settings.tokenizer and settings.vocab:
        raise UserError("--tokenizer and --vocab/--merges both name a tokenizer: give only one")
    if not -(2**63) <= settings.seed < 2**63:
        raise UserError(f"--seed {settings.seed} does not fit 64 bits: choose a smaller number")


def given_tokenizer(settings: PrepareSettings) -> Tokenizer | None:
    """The tokenizer the settings name, or None if one is to be trained."""
    if settings.tokenizer:
        tokenizer = Tokenizer.load(settings.tokenizer)
    elif settings.vocab and settings.merges:
        tokenizer = Tokenizer.from_vocab_merges(settings.vocab, settings.merges)
    else:
        wanted = DEFAULT_VOCAB_SIZE if settings.vocab_size is None else settings.vocab_size
        check_settings(wanted, settings.kind, settings.charset, settings.min_frequency)
        return None
    if settings.kind == "char" and tokenizer.kind != "char":
        raise UserError("--kind char cannot change a BPE tokenizer that exists: leave one out")
    if settings.vocab_size not in (None, tokenizer.vocab_size):
        raise UserError(
            f"--vocab-size {settings.vocab_size} cannot change a tokenizer that exists and has "
            f"{tokenizer.vocab_size} tokens: leave --vocab-size out, or the tokenizer"
        )
    return tokenizer


# The two passes


def _survey(
    settings: PrepareSettings,
    inputs: InputSet,
    tokenizer: Tokenizer | None,
    progress: ProgressFactory,
) -> tuple[Tokenizer, Survey, Report, list[str]]:
    """Count everything once, and train the tokenizer in the same pass if none is given."""
    reader = settings.reader(inputs)
    survey = Survey(settings.val_split, settings.seed)
    if tokenizer is None and settings.kind == "char":
        tokenizer = train_tokenizer((), kind="char", charset=settings.charset)
    replaced = Replaced(tokenizer, settings.replace)
    pieces = survey.watch(replaced.through(reader))
    if tokenizer is None:
        wanted = settings.vocab_size or DEFAULT_VOCAB_SIZE
        tokenizer = train_tokenizer(
            (piece.text for piece in pieces),
            vocab_size=wanted,
            min_frequency=settings.min_frequency,
            progress=progress,
            total=inputs.size,
            position=lambda: reader.counts.disk_bytes,
        )
        notes = vocabulary_notes(tokenizer, wanted)
    else:
        with progress("reading", inputs.size) as update:
            for _ in pieces:
                update(reader.counts.disk_bytes)
        notes = []
    notes += survey_notes(
        settings,
        inputs,
        tokenizer,
        reader.counts,
        reader.report,
        outside=replaced.count,
        examples=replaced.examples,
    )
    return tokenizer, survey, reader.report, notes


def survey_notes(
    settings: PrepareSettings,
    inputs: InputSet,
    tokenizer: Tokenizer,
    counts: ReadCounts,
    report: Report,
    *,
    outside: int,
    examples: Iterable[str],
) -> list[str]:
    """What to tell about a survey that found so many characters `outside` the tokenizer.

    Raises UserError when there is no text, or characters may not be replaced.
    """
    if outside and not settings.replace:
        keep = "" if settings.tokenizer or settings.vocab else ", or --charset bytes to keep them"
        lacking = outside_message(examples, outside)
        raise UserError(f"{lacking}: use --replace to turn them into '?'{keep}")
    if not counts.text_bytes:
        told = [*reading_notes(counts, inputs), *map(str, report.records[:1])]
        raise UserError(
            f"there is no text in {', '.join(map(one_line, settings.inputs))}"
            + "".join(f" ({note})" for note in told)
        )
    notes = reading_notes(counts, inputs)
    if outside:
        notes.append(f"{plural(outside, 'character')} outside the character set became '?'")
    if not tokenizer.lossless and not tokenizer.restricted:
        notes.append("this tokenizer changes some text: decoding does not restore it exactly")
    return notes


def _encode(
    *,
    settings: PrepareSettings,
    inputs: InputSet,
    tokenizer: Tokenizer,
    survey: Survey,
    plan: SplitPlan,
    writers: dict[int, TokenWriter],
    progress: ProgressFactory,
    batch_bytes: int,
) -> None:
    reader = settings.reader(inputs)
    pieces = Replaced(tokenizer, settings.replace).through(reader)
    begin = np.array(tokenizer.begin_ids, dtype=np.uint32)
    end = np.array([tokenizer.eos_id], dtype=np.uint32)
    done = 0
    with progress("encoding", survey.text_bytes) as update:
        for batch in encode_parts(tokenizer, divide(pieces, plan), batch_bytes):
            for part, ids in batch:
                writers[part.side].add(part, ids, begin=begin, end=end)
                done += part.num_bytes
            for writer in writers.values():
                writer.flush()
            update(done)
    if done != survey.text_bytes or reader.counts.documents != survey.documents:
        raise RunError(
            f"the input changed while it was read ({survey.text_bytes} bytes of text, then "
            f"{done}): nothing was written; run again when it no longer changes"
        )


class Replaced:
    """Counts the characters a restricted tokenizer lacks, and with `replace` replaces them."""

    def __init__(self, tokenizer: Tokenizer | None, replace: bool) -> None:
        self._tokenizer = tokenizer if tokenizer and tokenizer.restricted else None
        self._replace = replace
        self.count = 0
        self.examples: dict[str, None] = {}

    def told(self) -> dict[str, Any]:
        """What was found, for JSON."""
        return {"outside": self.count, "examples": list(self.examples)}

    def through(self, pieces: Iterable[Piece]) -> Iterable[Piece]:
        return pieces if self._tokenizer is None else self._mend(pieces, self._tokenizer)

    def _mend(self, pieces: Iterable[Piece], tokenizer: Tokenizer) -> Iterator[Piece]:
        for piece in pieces:
            characters = tokenizer.outside(piece.text)
            if not characters:
                yield piece
                continue
            self.count += len(characters)
            if len(self.examples) < 100:
                self.examples.update(dict.fromkeys(characters))
            if self._replace:
                text, _ = tokenizer.replace_outside(piece.text)
                yield Piece(text, len(text.encode()), piece.first, piece.last)
            else:
                yield piece
