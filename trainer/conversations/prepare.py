"""Conversations to token files: read twice, first to count and to split, then to encode.

Every record is one document. Its tokens come from the tokenizer's chat template, and the mask file
beside the tokens says which of them the assistant said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shared.errors import RunError, UserError
from shared.files import expand_user, open_file
from shared.text import one_line, plural
from trainer.checkpoint.finding import find_checkpoint
from trainer.conversations.records import FIELDS, dialogue_of
from trainer.data.bad_records import BadRecordError, Report
from trainer.data.commit import Prepared, Split, commit, refuse_to_replace
from trainer.data.documents import DocumentReader, Record
from trainer.data.encodings import DEFAULT, find_encoding
from trainer.data.file_set import FileSet
from trainer.data.inputs import (
    RECORD_EXTENSIONS,
    TABLE_EXTENSIONS,
    InputFile,
    InputSet,
    extension_of,
    find_inputs,
)
from trainer.data.marks import Answered
from trainer.data.outputs import TokenWriter, open_writers, plan_targets
from trainer.data.progress import ProgressFactory, silent
from trainer.data.read_counts import ReadCounts, reading_notes
from trainer.data.split import FEWEST_DOCUMENTS, LOPSIDED, TRAIN, VALIDATION, check_val_split
from trainer.data.tokenizer import MAX_TEMPLATE, Tokenizer
from trainer.generate.answers import AnswerFinder, Dialogue
from trainer.generate.templates import ChatTemplate

FLUSH = 1000  # conversations whose tokens are held


@dataclass(frozen=True)
class ChatSettings:
    """What to prepare and how. `tokenizer` is a file or folder, `template` a file with a chat
    template to use instead of the tokenizer's own. Conversations of more than `max_tokens` are bad
    records. The rest is as for text.
    """

    inputs: Sequence[str]
    output: str
    tokenizer: str | None
    template: str | None = None
    val_output: str | None = None
    val_split: float = 0.05
    encoding: str = DEFAULT
    max_tokens: int | None = None
    skip_bad: bool = False
    seed: int = 0
    overwrite: bool = False

    def reader(self, inputs: InputSet) -> DocumentReader:
        """A pass over the records."""
        return self.reader_of(inputs.files)

    def reader_of(self, files: Sequence[InputFile]) -> DocumentReader:
        """A pass over the records of some of the files."""
        return DocumentReader(
            files,
            "messages",
            encoding=find_encoding(self.encoding),
            on_bad="skip" if self.skip_bad else "refuse",
        )


def prepare_chat(settings: ChatSettings, progress: ProgressFactory = silent) -> Prepared:
    """Turn conversations into `train.bin`, `val.bin`, their mask files and sidecars, and the
    tokenizer's files with the chat template.

    The same inputs and settings give the same bytes on any machine. Raises UserError for wrong use,
    before anything is changed, and RunError when the disk is full or an input changes meanwhile.
    """
    check_chat_settings(settings)
    targets = plan_targets(settings.output, settings.val_output)
    tokenizer, template = chat_tokenizer(settings.tokenizer, settings.template)
    refuse_to_replace(targets, tokenizer, overwrite=settings.overwrite)
    inputs = records_among(find_inputs(settings.inputs, {path.resolve() for path in targets.files}))
    with FileSet() as files, open_writers(targets, files, masks=True) as writers:
        survey = _survey(settings, inputs, progress)
        reader = settings.reader(inputs)
        encoder = ConversationEncoder(
            AnswerFinder(template, tokenizer), tokenizer, settings.max_tokens
        )
        with progress("encoding", inputs.size) as update:
            done = encoder.write(reader, survey.side, writers, update)
        if done != survey.total or reader.counts.disk_bytes != survey.disk_bytes:
            raise RunError(
                f"the input changed while it was read ({survey.total} conversations, then {done}): "
                "nothing was written; run again when it no longer changes"
            )
        if not writers[TRAIN].num_documents:
            raise nothing_to_learn(settings, inputs, reader.counts, reader.report)
        return commit(
            targets=targets,
            tokenizer=tokenizer,
            split=Split(survey.rule, settings.val_split, settings.seed),
            writers=writers,
            files=files,
            report=reader.report if settings.skip_bad else None,
            overwrite=settings.overwrite,
            notes=[*reading_notes(reader.counts, inputs), *endless_notes(encoder.endless)],
        )


def check_chat_settings(settings: ChatSettings) -> None:
    """Raise UserError for settings that cannot be met, before anything is read."""
    check_val_split(settings.val_split, "the conversations")
    if settings.max_tokens is not None and settings.max_tokens < 2:
        raise UserError(f"--max-tokens is {settings.max_tokens}: it must be 2 or more")


def nothing_to_learn(
    settings: ChatSettings, inputs: InputSet, counts: ReadCounts, report: Report
) -> UserError:
    """The error for inputs without conversations."""
    told = [*reading_notes(counts, inputs), *map(str, report.records[:1])]
    return UserError(
        f"there is no conversation to learn from in {', '.join(map(one_line, settings.inputs))}"
        + "".join(f" ({note})" for note in told)
    )


def endless_notes(count: int) -> list[str]:
    """What a person should know about so many answers that do not end with a special token."""
    note = (
        f"in {plural(count, 'conversation')} no special token of the tokenizer ends an answer, so "
        "the model does not learn to stop: use template and tokenizer of one model"
    )
    return [note] if count else []


def chat_tokenizer(tokenizer: str | None, template: str | None) -> tuple[Tokenizer, ChatTemplate]:
    """The tokenizer at a file, model folder or run, with its chat template or with the one in the
    file `template`. Raises UserError when there is none."""
    if tokenizer is None:
        raise UserError(
            "conversations need the tokenizer and chat template of a model: give --tokenizer with "
            "a model folder"
        )
    place = expand_user(tokenizer)
    if (place / "checkpoints").is_dir() and not (place / "tokenizer.json").is_file():
        place = find_checkpoint(place)
    codec = Tokenizer.load(place)
    source = codec.chat_template if template is None else read_template(expand_user(template))
    if source is None:
        raise UserError(
            f"the tokenizer in {one_line(tokenizer)} has no chat template: give the folder of an "
            "instruct model, or a template in Jinja with --chat-template FILE"
        )
    return codec.with_chat_template(source), ChatTemplate(codec, source)


def read_template(path: Path) -> str:
    """The chat template in a file. Raises UserError."""
    try:
        with open_file(path) as file:  # opening a pipe would block
            data = file.read(MAX_TEMPLATE + 1)
    except OSError as error:
        raise UserError(f"cannot read {one_line(path)}: {error.strerror}") from error
    if len(data) > MAX_TEMPLATE:
        raise UserError(f"{one_line(path)} has over {MAX_TEMPLATE} bytes: that is no chat template")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{one_line(path)} is not UTF-8: {one_line(error)}") from error
    if not text.strip():
        raise UserError(f"{one_line(path)} is empty: it must hold a chat template in Jinja")
    return text


def records_among(inputs: InputSet) -> InputSet:
    """The inputs without what a folder holds besides files of records."""
    wanted = RECORD_EXTENSIONS | TABLE_EXTENSIONS
    files = tuple(f for f in inputs.files if f.named or extension_of(f.path) in wanted)
    others = len(inputs.files) - len(files)
    if not files:
        raise UserError(
            "there is no file of records among the inputs: conversations are JSON Lines (.jsonl) "
            "or Parquet"
        )
    return replace(inputs, files=files, other_extensions=inputs.other_extensions + others)


@dataclass(frozen=True)
class ChatSurvey:
    """The first pass: how many conversations, and below which hash they are for validation."""

    total: int
    disk_bytes: int
    rule: str
    threshold: int
    seed: int

    def side(self, dialogue: Dialogue) -> int:
        return VALIDATION if hash_of(dialogue, self.seed) < self.threshold else TRAIN


def _survey(settings: ChatSettings, inputs: InputSet, progress: ProgressFactory) -> ChatSurvey:
    reader = settings.reader(inputs)
    hashes: list[int] = []
    with progress("reading", inputs.size) as update:
        for _, dialogue in dialogues_of(reader):
            hashes.append(hash_of(dialogue, settings.seed))
            update(reader.counts.disk_bytes)
    threshold = threshold_of(hashes, settings.val_split)
    rule = "documents" if threshold else "none"
    return ChatSurvey(len(hashes), reader.counts.disk_bytes, rule, threshold, settings.seed)


def threshold_of(hashes: list[int], share: float) -> int:
    """The hash below which conversations are for validation.

    With many conversations a fixed one, so that each is on the same side in any data. With few the
    one that comes nearest to the share. Copies are always on one side.
    """
    if not share or len(set(hashes)) < 2:
        return 0
    fixed = int(share * 2**64)
    found = sum(value < fixed for value in hashes) / len(hashes)
    if len(hashes) >= FEWEST_DOCUMENTS and share / LOPSIDED <= found <= min(
        share * LOPSIDED, (1 + share) / 2
    ):
        return fixed
    wanted = min(max(round(len(hashes) * share), 1), len(hashes) - 1)
    ordered = sorted(hashes)
    # The last of them is for training, whatever has its hash.
    return min(ordered[wanted - 1] + 1, ordered[-1])


def hash_of(dialogue: Dialogue, seed: int) -> int:
    """The same for a conversation in any kind of file."""
    messages = [message.variables() for message in dialogue.messages]
    content = [messages, dialogue.tools, dialogue.prompt, sorted(dialogue.unlearnt)]
    data = json.dumps(content, sort_keys=True, default=str)  # which takes half a character, too
    key = seed.to_bytes(8, "little", signed=True)
    digest = hashlib.blake2b(data.encode(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little")


def dialogues_of(reader: DocumentReader) -> Iterator[tuple[Record, Dialogue]]:
    """The conversations, and their records; bad ones are refused or left out."""
    for record in reader.records(FIELDS):
        try:
            dialogue = dialogue_of(record.content)
        except BadRecordError as error:
            reader.refuse(record, str(error))
        else:
            yield record, dialogue


class ConversationEncoder:
    """Encodes conversations, and counts the answers that do not end with a special token."""

    def __init__(self, finder: AnswerFinder, tokenizer: Tokenizer, max_tokens: int | None) -> None:
        self._finder = finder
        self._special = tokenizer.special_ids
        self._most = max_tokens
        self.endless = 0

    def write(
        self,
        reader: DocumentReader,
        side: Callable[[Dialogue], int],
        writers: dict[int, TokenWriter],
        update: Callable[[int], None],
    ) -> int:
        """Write every conversation's tokens and marks; returns how many conversations there are."""
        done = 0
        for record, dialogue in dialogues_of(reader):
            done += 1
            try:
                answered = self._encoded(dialogue)
            except BadRecordError as error:
                reader.refuse(record, str(error))
                continue
            ids = np.array(answered.ids, dtype=np.uint32)
            writers[side(dialogue)].add_document(ids, np.array(answered.said, dtype=np.bool_))
            if not done % FLUSH:
                _flush(writers)
                update(reader.counts.disk_bytes)
        _flush(writers)
        update(reader.counts.disk_bytes)
        return done

    def _encoded(self, dialogue: Dialogue) -> Answered:
        try:
            answered = self._finder.encode(dialogue)
        except UserError as error:
            raise BadRecordError(f": {error}".rstrip(".")) from error
        if self._most is not None and len(answered.ids) > self._most:
            raise BadRecordError(
                f"has {plural(len(answered.ids), 'token')}, more than --max-tokens {self._most}"
            )
        if not any(answered.said[1:]):
            raise BadRecordError("has nothing of the assistant in the model's chat template")
        pairs = zip(answered.ids, answered.said, strict=True)
        self.endless += self._special.isdisjoint(index for index, said in pairs if said)
        return answered


def _flush(writers: dict[int, TokenWriter]) -> None:
    for writer in writers.values():
        writer.flush()
