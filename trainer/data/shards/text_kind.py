"""Text in shards: what the command decides for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from trainer.data.bad_records import Report
from trainer.data.inputs import InputSet, find_inputs
from trainer.data.prepare import (
    PrepareSettings,
    check_settings_of,
    given_tokenizer,
    survey_notes,
)
from trainer.data.progress import ProgressFactory
from trainer.data.read_counts import ReadCounts
from trainer.data.shards.prepare import Split
from trainer.data.split import Survey, plan_split
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokenizer_training import (
    DEFAULT_VOCAB_SIZE,
    train_tokenizer,
    vocabulary_notes,
)


class TextKind:
    """Documents, for which the settings are those of `prepare`."""

    worker = "trainer.data.shards.text"
    masks = False

    def __init__(self, settings: PrepareSettings) -> None:
        """Raises UserError for settings that cannot be met."""
        check_settings_of(settings)
        self._settings = settings

    @property
    def settings(self) -> PrepareSettings:
        """What a person asked for."""
        return self._settings

    @cached_property
    def given(self) -> Tokenizer | None:
        """The tokenizer, unless one is to be trained."""
        tokenizer = given_tokenizer(self._settings)
        if tokenizer is None and self._settings.kind == "char":
            return train_tokenizer((), kind="char", charset=self._settings.charset)
        return tokenizer

    def options(self) -> dict[str, Any]:
        """All that the tokens depend on besides the inputs, by flags."""
        settings, tokenizer = self._settings, self.given
        options = {
            "--val-split": settings.val_split,
            "--seed": settings.seed,
            "--text-field": settings.text_field,
            "--encoding": settings.encoding,
            "--skip-bad": settings.skip_bad,
            "--replace": settings.replace,
            "the tokenizer": tokenizer.hash if tokenizer else "a new one",
        }
        if tokenizer is None:
            options["--vocab-size"] = settings.vocab_size or DEFAULT_VOCAB_SIZE
            options["--min-frequency"] = settings.min_frequency
        return options

    def inputs(self, exclude: set[Path]) -> InputSet:
        """The files to read."""
        return find_inputs(self._settings.inputs, exclude)

    def trained(self, inputs: InputSet, progress: ProgressFactory) -> tuple[Tokenizer, list[str]]:
        """A tokenizer trained on all of the text, by one process."""
        reader = self._settings.reader(inputs)
        wanted = self._settings.vocab_size or DEFAULT_VOCAB_SIZE
        tokenizer = train_tokenizer(
            (piece.text for piece in reader),
            vocab_size=wanted,
            min_frequency=self._settings.min_frequency,
            progress=progress,
            total=inputs.size,
            position=lambda: reader.counts.disk_bytes,
        )
        return tokenizer, vocabulary_notes(tokenizer, wanted)

    def for_workers(self) -> dict[str, Any]:
        """The settings of the processes."""
        settings = asdict(self._settings) | {"inputs": []}
        del settings["leave_out"]  # numbers of documents of the whole text: refused with shards
        return settings

    def split(self, surveys: Sequence[dict[str, Any]], places: Sequence[Path]) -> Split:
        """The rule for the whole text; a shard knows where in it it begins."""
        whole = Survey(self._settings.val_split, self._settings.seed)
        names = ("documents", "text_bytes", "validation_documents", "validation_bytes")
        positions = []
        for survey in surveys:
            positions.append(whole.text_bytes)
            for name in names:
                setattr(whole, name, getattr(whole, name) + int(survey[name]))
        plan = plan_split(whole)
        boundaries = list(plan.boundaries)
        for start, survey in zip(positions, surveys, strict=True):
            reach = start + int(survey["reach"])
            boundaries = [start if start < b < reach else b for b in boundaries]
        facts = [
            {
                "rule": plan.rule,
                "boundaries": boundaries,
                "position": position,
                "text_bytes": survey["text_bytes"],
                "documents": survey["documents"],
            }
            for position, survey in zip(positions, surveys, strict=True)
        ]
        return Split(plan.rule, facts)

    def notes(
        self,
        inputs: InputSet,
        tokenizer: Tokenizer,
        surveys: Sequence[dict[str, Any]],
        counts: ReadCounts,
        report: Report,
    ) -> list[str]:
        """What to tell about the text."""
        outside = sum(int(survey["outside"]) for survey in surveys)
        examples = [example for survey in surveys for example in survey["examples"]]
        return survey_notes(
            self._settings, inputs, tokenizer, counts, report, outside=outside, examples=examples
        )

    def notes_of_made(
        self,
        inputs: InputSet,
        surveys: Sequence[dict[str, Any]],
        told: Sequence[dict[str, Any]],
        tokens: int,
    ) -> list[str]:
        """Nothing more to tell."""
        return []
