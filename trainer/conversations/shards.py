"""Conversations in shards: what the command decides, and what a process does with its part."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from shared.errors import RunError
from trainer.conversations.prepare import (
    ChatSettings,
    ConversationEncoder,
    chat_tokenizer,
    check_chat_settings,
    dialogues_of,
    endless_notes,
    hash_of,
    nothing_to_learn,
    records_among,
    threshold_of,
)
from trainer.data.bad_records import Report
from trainer.data.inputs import InputFile, InputSet, find_inputs
from trainer.data.outputs import TokenWriter
from trainer.data.progress import ProgressFactory
from trainer.data.read_counts import ReadCounts, reading_notes
from trainer.data.shards.prepare import Split
from trainer.data.shards.records import HASHES, merged_counts, merged_report, report_to_plain
from trainer.data.shards.worker import Survey, serve
from trainer.data.split import TRAIN, VALIDATION
from trainer.data.tokenizer import Tokenizer
from trainer.generate.answers import AnswerFinder, Dialogue

Update = Callable[[int], None]


class ChatMaker:
    """Reads and encodes conversations with the settings of a whole set."""

    masks = True

    def __init__(self, settings: ChatSettings, tokenizer: str) -> None:
        self._settings = settings
        self._tokenizer, self._template = chat_tokenizer(tokenizer, None)

    def survey(self, files: list[InputFile], place: Path, update: Update) -> Survey:
        """Count the conversations, and write down the number by which each is told apart."""
        reader = self._settings.reader_of(files)
        hashes: list[int] = []
        for _, dialogue in dialogues_of(reader):
            hashes.append(hash_of(dialogue, self._settings.seed))
            update(reader.counts.disk_bytes)
        np.array(hashes, dtype="<u8").tofile(place.with_name(place.name + HASHES))
        return {"total": len(hashes)}, reader

    def encode(
        self,
        files: list[InputFile],
        facts: Mapping[str, Any],
        writers: dict[int, TokenWriter],
        update: Update,
    ) -> dict[str, Any]:
        """Write the tokens and marks of both sides."""
        reader, seed = self._settings.reader_of(files), self._settings.seed

        def side(dialogue: Dialogue) -> int:
            return VALIDATION if hash_of(dialogue, seed) < facts["threshold"] else TRAIN

        finder = AnswerFinder(self._template, self._tokenizer)
        encoder = ConversationEncoder(finder, self._tokenizer, self._settings.max_tokens)
        done = encoder.write(reader, side, writers, update)
        if done != facts["total"] or reader.counts.disk_bytes != facts["disk_bytes"]:
            raise RunError(
                f"the input changed while it was read ({facts['total']} conversations in a shard, "
                f"then {done}): run the same command again when it no longer changes"
            )
        return {"endless": encoder.endless, "report": report_to_plain(reader.report)}


class ChatKind:
    """Conversations, for which the settings are those of `prepare_chat`."""

    worker = "trainer.conversations.shards"
    masks = True

    def __init__(self, settings: ChatSettings) -> None:
        """Raises UserError for settings that cannot be met."""
        check_chat_settings(settings)
        self._settings = settings

    @property
    def settings(self) -> ChatSettings:
        """What a person asked for."""
        return self._settings

    @cached_property
    def given(self) -> Tokenizer:
        """The tokenizer, with the chat template."""
        tokenizer, _ = chat_tokenizer(self._settings.tokenizer, self._settings.template)
        return tokenizer

    def options(self) -> dict[str, Any]:
        """All that the tokens depend on besides the inputs, by flags."""
        settings = self._settings
        template = self.given.chat_template or ""
        return {
            "--chat": True,
            "--val-split": settings.val_split,
            "--seed": settings.seed,
            "--encoding": settings.encoding,
            "--skip-bad": settings.skip_bad,
            "--max-tokens": settings.max_tokens,
            "the tokenizer": self.given.hash,
            "the chat template": sha256(template.encode()).hexdigest()[:16],
        }

    def inputs(self, exclude: set[Path]) -> InputSet:
        """The files of records."""
        return records_among(find_inputs(self._settings.inputs, exclude))

    def trained(self, inputs: InputSet, progress: ProgressFactory) -> tuple[Tokenizer, list[str]]:
        """Conversations have the tokenizer of a model."""
        return self.given, []

    def for_workers(self) -> dict[str, Any]:
        """The settings of the processes."""
        return asdict(self._settings) | {"inputs": []}

    def split(self, surveys: Sequence[dict[str, Any]], places: Sequence[Path]) -> Split:
        """The hash below which a conversation is for validation."""
        arrays = [np.fromfile(p.with_name(p.name + HASHES), dtype="<u8") for p in places]
        hashes: list[int] = np.concatenate(arrays).tolist()
        threshold = threshold_of(hashes, self._settings.val_split)
        facts = [
            {
                "threshold": threshold,
                "total": survey["total"],
                "disk_bytes": survey["counts"]["disk_bytes"],
            }
            for survey in surveys
        ]
        return Split("documents" if threshold else "none", facts)

    def notes(
        self,
        inputs: InputSet,
        tokenizer: Tokenizer,
        surveys: Sequence[dict[str, Any]],
        counts: ReadCounts,
        report: Report,
    ) -> list[str]:
        """What to tell about the records."""
        return reading_notes(counts, inputs)

    def notes_of_made(
        self,
        inputs: InputSet,
        surveys: Sequence[dict[str, Any]],
        told: Sequence[dict[str, Any]],
        tokens: int,
    ) -> list[str]:
        """What to tell about the answers. Raises UserError when there are none."""
        if not tokens:
            counts, report = merged_counts(surveys), merged_report(told)
            raise nothing_to_learn(self._settings, inputs, counts, report)
        return endless_notes(sum(int(each["endless"]) for each in told))


def make(settings: dict[str, Any]) -> ChatMaker:
    """The maker of these settings."""
    own = {key: value for key, value in settings.items() if key != "tokenizer_folder"}
    return ChatMaker(ChatSettings(**own), settings["tokenizer_folder"])


if __name__ == "__main__":
    sys.exit(serve(make))
