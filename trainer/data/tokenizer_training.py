"""Making a tokenizer from text, alone or on the way to token files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tokenizers import models, trainers

from shared.errors import UserError
from shared.files import expand_user
from shared.text import one_line
from trainer.data.bad_records import Report
from trainer.data.bpe_training import train_bpe
from trainer.data.byte_level import (
    ASCII_CHARACTERS,
    ASCII_END_OF_TEXT,
    ASCII_PADDING,
    CHARACTER_OF_BYTE,
    END_OF_TEXT,
    PADDING,
    QWEN2_PATTERN,
    byte_level_backend,
)
from trainer.data.documents import DocumentReader
from trainer.data.encodings import DEFAULT, find_encoding
from trainer.data.file_set import FileSet, cannot_write
from trainer.data.inputs import find_inputs
from trainer.data.own_files import REPORT
from trainer.data.progress import ProgressFactory, silent
from trainer.data.read_counts import reading_notes
from trainer.data.tokenizer import TOKENIZER_FILES, Charset, Kind, Tokenizer

DEFAULT_VOCAB_SIZE = 4096
SMALLEST_BPE_VOCABULARY = 256 + 2
LARGEST_BPE_VOCABULARY = 2**20  # four times the largest in use; the trainer allocates all of it
LARGEST_COUNT = 2**40


@dataclass(frozen=True)
class TrainSettings:
    """A tokenizer to make from files. Character tokenizers need no inputs."""

    inputs: Sequence[str]
    output_directory: str
    vocab_size: int = DEFAULT_VOCAB_SIZE
    kind: Kind = "bpe"
    charset: Charset = "bytes"
    min_frequency: int = 2
    text_field: str = "text"
    encoding: str = DEFAULT
    skip_bad: bool = False
    overwrite: bool = False


def train_on_files(
    settings: TrainSettings, progress: ProgressFactory = silent
) -> tuple[Tokenizer, list[str]]:
    """Train on the inputs and save the result; also returns notes for the person.

    Raises UserError for wrong use, before anything is written.
    """
    check_settings(settings.vocab_size, settings.kind, settings.charset, settings.min_frequency)
    directory = expand_user(settings.output_directory)
    outputs = [directory / name for name in TOKENIZER_FILES]
    for path in outputs:
        if path.exists() and not settings.overwrite:
            raise UserError(f"{path} exists already: pass --overwrite to replace the tokenizer")
    report = Report()
    if settings.kind == "char":
        tokenizer, notes = train_tokenizer((), kind="char", charset=settings.charset), []
    else:
        inputs = find_inputs(settings.inputs, {path.resolve() for path in outputs})
        reader = DocumentReader(
            inputs.files,
            settings.text_field,
            encoding=find_encoding(settings.encoding),
            on_bad="skip" if settings.skip_bad else "refuse",
        )
        tokenizer = train_tokenizer(
            (piece.text for piece in reader),
            vocab_size=settings.vocab_size,
            min_frequency=settings.min_frequency,
            progress=progress,
            total=inputs.size,
            position=lambda: reader.counts.disk_bytes,
        )
        report = reader.report
        notes = reading_notes(reader.counts, inputs)
        if not reader.counts.text_bytes:
            names = ", ".join(map(one_line, settings.inputs))
            raise UserError(f"there is no text in {names}")
        notes += vocabulary_notes(tokenizer, settings.vocab_size)
    try:
        with FileSet() as files:
            if report.records and settings.skip_bad:
                files.stage(directory / REPORT, report.to_lines())
                notes += report.notes(directory / REPORT)
            for name, data in tokenizer.files().items():
                files.stage(directory / name, data)
            files.commit()
    except OSError as error:
        raise cannot_write(error, directory) from error
    return tokenizer, notes


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocab_size: int = 4096,
    kind: Kind = "bpe",
    charset: Charset = "bytes",
    min_frequency: int = 2,
    progress: ProgressFactory = silent,
    total: int = 0,
    position: Callable[[], int] = lambda: 0,
) -> Tokenizer:
    """A new tokenizer. `texts` is read once and not kept, only its distinct words are.

    `progress` shows how many of `total` bytes were read, which `position` returns.

    The vocabulary is smaller than `vocab_size` when the text has too few pairs that occur
    `min_frequency` times. Character tokenizers have the size of their set (258 or 99 tokens)
    and leave `texts` unread. Raises UserError for settings that cannot be met.
    """
    check_settings(vocab_size, kind, charset, min_frequency)
    if kind == "char":
        return _char_tokenizer(charset)
    backend = byte_level_backend(models.BPE(), QWEN2_PATTERN)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        show_progress=False,
        # Every byte from the start: a byte the training text lacks must not vanish from others.
        initial_alphabet=sorted(CHARACTER_OF_BYTE.values()),
        special_tokens=[END_OF_TEXT, PADDING],
    )
    train_bpe(backend, trainer, texts, progress=progress, total=total, position=position)
    return Tokenizer(backend)


def check_settings(vocab_size: int, kind: str, charset: str, min_frequency: int) -> None:
    """Raise UserError for a combination `train_tokenizer` cannot meet."""
    if kind not in ("bpe", "char"):
        raise UserError(f"--kind {one_line(kind)} is unknown: choose bpe or char")
    if charset not in ("bytes", "ascii"):
        raise UserError(f"--charset {one_line(charset)} is unknown: choose bytes or ascii")
    if charset == "ascii" and kind != "char":
        raise UserError("--charset ascii is for --kind char: BPE always covers every byte")
    if kind == "bpe" and vocab_size < SMALLEST_BPE_VOCABULARY:
        raise UserError(
            f"--vocab-size {vocab_size} is too small: 256 bytes and 2 special tokens need at "
            f"least {SMALLEST_BPE_VOCABULARY}"
        )
    if kind == "bpe" and vocab_size > LARGEST_BPE_VOCABULARY:
        raise UserError(
            f"--vocab-size {vocab_size} is too large: it must be at most {LARGEST_BPE_VOCABULARY}"
        )
    if min_frequency > LARGEST_COUNT:
        raise UserError(
            f"--min-frequency {min_frequency} is too large: it must be at most {LARGEST_COUNT}"
        )
    if min_frequency < 1:
        raise UserError(f"--min-frequency {min_frequency} is too small: it must be 1 or more")


def vocabulary_notes(tokenizer: Tokenizer, wanted: int) -> list[str]:
    """What to say when the vocabulary came out smaller than asked for."""
    if tokenizer.vocab_size >= wanted:
        return []
    note = (
        f"the text gives a vocabulary of {tokenizer.vocab_size} tokens, not the {wanted} asked "
        "for: too few pairs occur often enough"
    )
    return [note]


def _char_tokenizer(charset: Charset) -> Tokenizer:
    if charset == "ascii":
        ends, pads = ASCII_END_OF_TEXT, ASCII_PADDING
        specials = [pads, ends]
        alphabet = [CHARACTER_OF_BYTE[byte] for byte in ASCII_CHARACTERS.encode()]
    else:
        ends, pads = END_OF_TEXT, PADDING
        specials = [ends, pads]
        alphabet = [CHARACTER_OF_BYTE[byte] for byte in range(256)]
    vocabulary = {token: index for index, token in enumerate([*specials, *alphabet])}
    backend = byte_level_backend(models.BPE(vocab=vocabulary, merges=[]), None)
    backend.add_special_tokens(specials)
    return Tokenizer(backend, {"eos_token": ends, "pad_token": pads})
