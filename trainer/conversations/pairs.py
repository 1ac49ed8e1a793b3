"""Records of preferences, in TRL's forms, as tokens: a prompt, a chosen and a rejected answer."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.files import replace_file
from shared.text import one_line, plural
from trainer.conversations.prepare import chat_tokenizer
from trainer.conversations.records import dialogue_of
from trainer.data.bad_records import BadRecordError
from trainer.data.documents import DocumentReader
from trainer.data.encodings import DEFAULT, find_encoding
from trainer.data.inputs import find_inputs
from trainer.data.marks import Answered
from trainer.data.own_files import REPORT
from trainer.data.pairs import write_pairs
from trainer.data.read_counts import reading_notes
from trainer.data.split import check_val_split
from trainer.data.tokenizer import Tokenizer
from trainer.generate.answers import AnswerFinder
from trainer.generate.templates import ChatTemplate

FIELDS = ("prompt", "chosen", "rejected", "tools")


@dataclass(frozen=True)
class PairSettings:
    """What to prepare: files or folders, the tokenizer's folder, and what to do with bad records.

    A share `val_split` of the pairs is for validation, by a hash of the record. `template` is a
    file with a chat template to use instead of the tokenizer's own.
    """

    inputs: Sequence[str]
    output: Path
    tokenizer: str
    template: str | None = None
    encoding: str = DEFAULT
    skip_bad: bool = False
    val_split: float = 0.0


def prepare_pairs(settings: PairSettings) -> list[str]:
    """Write the pairs and the tokenizer to the output folder; returns notes for a person.

    Raises UserError with file and line of a bad record, unless those are left out.
    """
    check_val_split(settings.val_split, "the pairs")
    inputs = find_inputs(settings.inputs)
    reader = DocumentReader(
        inputs.files,
        "prompt",
        encoding=find_encoding(settings.encoding),
        on_bad="skip" if settings.skip_bad else "refuse",
        skipping="trainer dpo --skip-bad",
    )
    if settings.template is None:
        codec = Tokenizer.load(settings.tokenizer)
    else:
        codec, _ = chat_tokenizer(settings.tokenizer, settings.template)
    settings.output.mkdir(parents=True, exist_ok=True)
    codec.save(settings.output)
    held = _Held(settings.val_split)
    count = write_pairs(settings.output, _pairs(reader, PairEncoder(codec), held), held)
    notes = reading_notes(reader.counts, inputs)
    listed = settings.output / REPORT
    if reader.report.records:
        replace_file(listed, reader.report.to_lines())
        notes += reader.report.notes(listed)
    if not count:
        raise UserError(
            f"There is no pair to learn from in {', '.join(map(one_line, settings.inputs))}"
            + "".join(f" ({note})" for note in notes[:1])
            + "."
        )
    return [f"{plural(count, 'pair')} of answers", *notes]


class _Held:
    """The numbers of the pairs for validation: those with the smallest hashes, so that adding pairs
    moves few, and copies are on one side. One is always for training."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._hashes: list[bytes] = []

    def note(self, record: Mapping[str, Any]) -> None:
        """Note the next pair's record."""
        content = {key: record.get(key) for key in FIELDS}
        data = json.dumps(content, sort_keys=True, default=str)  # which takes half a character, too
        self._hashes.append(hashlib.blake2b(data.encode(), digest_size=8).digest())

    def __contains__(self, number: object) -> bool:
        assert isinstance(number, int)
        return self._hashes[number] < self._threshold

    @functools.cached_property
    def _threshold(self) -> bytes:
        ordered = sorted(self._hashes)
        return ordered[min(round(len(ordered) * self._share), len(ordered) - 1)]


def _pairs(
    reader: DocumentReader, encoder: PairEncoder, held: _Held
) -> Iterator[tuple[Answered, Answered]]:
    for record in reader.records(FIELDS):
        try:
            pair = encoder.encode(record.content)
            held.note(record.content)
        except BadRecordError as error:
            reader.refuse(record, str(error))
        except RecursionError:
            reader.refuse(record, "nests too deeply")
        else:
            yield pair


class PairEncoder:
    """Encodes records for the model that the tokenizer belongs to."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._finder = None
        if tokenizer.chat_template is not None:
            template = ChatTemplate(tokenizer, tokenizer.chat_template)
            self._finder = AnswerFinder(template, tokenizer)

    def encode(self, record: Mapping[str, Any]) -> tuple[Answered, Answered]:
        """The preferred answer and the other, each after the prompt. Raises BadRecordError."""
        for field in ("chosen", "rejected"):
            if not record.get(field):
                known = ", ".join(map(one_line, record)) or "none"
                raise BadRecordError(
                    f"has no {field}: it must have chosen and rejected; its fields are "
                    f"{one_line(known, 120)}"
                )
        chosen, rejected = record["chosen"], record["rejected"]
        if type(chosen) is not type(rejected):
            raise BadRecordError(": chosen and rejected must both be text or both be messages")
        if not isinstance(chosen, (str, list)):
            raise BadRecordError(": chosen is neither text nor a list of messages")
        if chosen == rejected:
            raise BadRecordError(": chosen and rejected are the same")
        prompt = record.get("prompt")
        # Some data has the prompt as text too beside whole conversations.
        implicit = prompt is None or (isinstance(chosen, list) and not isinstance(prompt, list))
        if implicit:
            prompt, chosen, rejected = _split(chosen, rejected)
        if not isinstance(chosen, list) and (self._finder is None or implicit):
            return self._plain(prompt, chosen), self._plain(prompt, rejected)
        tools = record.get("tools")
        return self._rendered(prompt, chosen, tools), self._rendered(prompt, rejected, tools)

    def _rendered(self, prompt: Any, answer: Any, tools: Any) -> Answered:
        """In the model's chat template; a text is a message of the user or of the assistant."""
        if self._finder is None:
            raise BadRecordError(
                ": messages need a chat template, which the model does not have; give one with "
                "--chat-template"
            )
        dialogue = dialogue_of({"prompt": prompt, "completion": answer, "tools": tools})
        try:
            return self._finder.encode(dialogue)
        except UserError as error:
            raise BadRecordError(f": {error}".rstrip(".")) from error

    def _plain(self, prompt: Any, answer: Any) -> Answered:
        """As text, which the end token ends."""
        if not isinstance(prompt, str) or not isinstance(answer, str):
            raise BadRecordError(": prompt, chosen and rejected must all be text or all messages")
        before = self._tokenizer.encode_prompt(prompt)
        after = [*self._tokenizer.encode(answer), self._tokenizer.eos_id]
        return Answered(before + after, [False] * len(before) + [True] * len(after))


def _split(chosen: Any, rejected: Any) -> tuple[Any, Any, Any]:
    """The beginning that both have, which is the prompt, and what follows it in each.

    Of texts it ends before the space that begins both answers, as in TRL. Raises BadRecordError.
    """
    pairs = zip(chosen, rejected, strict=False)
    same = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(chosen), len(rejected)))
    if isinstance(chosen, str) and same and chosen[same - 1] == " ":
        same -= 1
    if not chosen[same:] or not rejected[same:]:
        raise BadRecordError(": one of chosen and rejected is the beginning of the other")
    if not same:
        raise BadRecordError(": has no prompt, and chosen and rejected begin differently")
    return chosen[:same], chosen[same:], rejected[same:]
