"""What a pass over documents counted, and what a person is told of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from shared.text import plural
from trainer.data.inputs import InputSet


@dataclass
class ReadCounts:
    """Counts of one pass over the documents. `disk_bytes` are those before decompression; `marked`
    counts files by the encoding that a byte order mark names."""

    documents: int = 0
    text_bytes: int = 0
    disk_bytes: int = 0
    empty_documents: int = 0
    left_out: int = 0
    binary_files: int = 0
    replaced_characters: int = 0
    marked: Counter[str] = field(default_factory=Counter)


def reading_notes(counts: ReadCounts, inputs: InputSet) -> list[str]:
    """What a pass over the inputs skipped or replaced, as phrases for a person."""
    told = (
        (counts.replaced_characters, "invalid UTF-8 sequence", "replaced by U+FFFD"),
        (counts.binary_files, "binary file", "skipped"),
        (counts.empty_documents, "empty document", "skipped"),
        (counts.left_out, "document", "left out, with text of a task"),
        (inputs.other_extensions, "file", "without a known text extension skipped"),
        (inputs.own_files, "file", "of tokens, tokenizers or models skipped"),
        (inputs.own_folders, "folder", "of runs or checkpoints skipped"),
    )
    notes = [f"{plural(number, noun)} {what}" for number, noun, what in told if number]
    return notes + [
        f"{plural(number, 'file')} read as {encoding} by a byte order mark"
        for encoding, number in counts.marked.items()
    ]
