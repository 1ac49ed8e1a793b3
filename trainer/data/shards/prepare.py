"""Inputs to tokens in shards, by many processes, so that an interrupted command goes on.

`shards-KEY/` is filled first; its name depends on the inputs and options, so that the same command
finds what it made. The manifest is put in place last, together with what belongs to the whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from shared.errors import UserError
from shared.files import replace_file
from shared.json_text import encode_json
from shared.text import one_line, plural
from trainer.data.bad_records import Report
from trainer.data.commit import Prepared
from trainer.data.file_set import FileSet, cannot_write
from trainer.data.inputs import InputFile, InputSet
from trainer.data.progress import ProgressFactory, silent
from trainer.data.read_counts import ReadCounts
from trainer.data.shards.commit import Made, Place, commit
from trainer.data.shards.cuts import divide
from trainer.data.shards.manifest import (
    folders_of_shards,
    has_finished_shards,
    read_manifest,
    shard_name,
)
from trainer.data.shards.plan import ShardPlan, plan_of
from trainer.data.shards.pool import Here, Pool, check_workers, cores, open_pool
from trainer.data.shards.records import (
    SURVEY,
    merged_counts,
    merged_report,
    read_record,
    read_survey,
)
from trainer.data.shards.worker import input_entry
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokens import PLAN, Sidecar

TOKENIZER = "tokenizer"
MOST_SHARDS = 100_000


class Settings(Protocol):
    """What the settings of every kind of input have."""

    @property
    def output(self) -> str: ...
    @property
    def val_output(self) -> str | None: ...
    @property
    def val_split(self) -> float: ...
    @property
    def encoding(self) -> str: ...
    @property
    def skip_bad(self) -> bool: ...
    @property
    def seed(self) -> int: ...
    @property
    def overwrite(self) -> bool: ...


@dataclass(frozen=True)
class Split:
    """By which rule the sides are told apart, and what each shard must know for that."""

    rule: str
    facts: list[dict[str, Any]]


class Kind(Protocol):
    """A kind of input: text, or conversations."""

    #: The module of its processes, and whether there are mask files.
    worker: str
    masks: bool

    @property
    def settings(self) -> Settings:
        """What a person asked for."""

    @property
    def given(self) -> Tokenizer | None:
        """The tokenizer, unless one is to be trained."""

    def options(self) -> dict[str, Any]:
        """All that the tokens depend on besides the inputs, by flags."""

    def inputs(self, exclude: set[Path]) -> InputSet:
        """The files to read."""

    def trained(self, inputs: InputSet, progress: ProgressFactory) -> tuple[Tokenizer, list[str]]:
        """A tokenizer trained on the inputs, and notes."""

    def for_workers(self) -> dict[str, Any]:
        """The settings of its processes; the tokenizer's folder is added."""

    def split(self, surveys: Sequence[dict[str, Any]], places: Sequence[Path]) -> Split:
        """Decide from what was counted in each shard; `places` are theirs."""

    def notes(
        self,
        inputs: InputSet,
        tokenizer: Tokenizer,
        surveys: Sequence[dict[str, Any]],
        counts: ReadCounts,
        report: Report,
    ) -> list[str]:
        """What to tell about the survey. Raises UserError when it cannot go on."""

    def notes_of_made(
        self,
        inputs: InputSet,
        surveys: Sequence[dict[str, Any]],
        told: Sequence[dict[str, Any]],
        tokens: int,
    ) -> list[str]:
        """What to tell about the shards, whose training sides have so many tokens and of which
        their processes `told`. Raises UserError when nothing can be learnt from them."""


def prepare_shards(
    kind: Kind,
    shards: int,
    workers: int | None = None,
    progress: ProgressFactory = silent,
) -> Prepared:
    """Make at most `shards` shards with so many processes (None: one per core), and put them in
    place together.

    The same inputs and settings give the same bytes on any machine, with any number of processes.
    Raises UserError for wrong use, before anything is changed, and RunError when the disk is full,
    a process ends or an input changes; what is finished is kept for the next time.
    """
    _check(shards, workers)
    settings = kind.settings
    place = Place.of(settings.output, settings.val_output)
    inputs = kind.inputs({path.resolve() for path in place.files})
    plan = plan_of({"--shards": shards, **kind.options()}, inputs)
    work = place.directory / plan.folder
    _refuse_to_mix(place, plan, work, kind)
    try:
        with FileSet() as files:
            # Held from the beginning: nobody else writes into the folder, in shards or without.
            files.open(place.manifest)
            files.open(place.val)
            parts = divide(inputs.files, shards, settings.encoding)
            plan = replace(plan, shards=len(parts))
            job = _Job(kind, plan, inputs, parts, work, place, workers or cores(), progress)
            prepared = commit(job.made(), files)
    except OSError as error:
        raise cannot_write(error, place.directory) from error
    place.clean(work, everything=settings.overwrite)
    return prepared


def _check(shards: int, workers: int | None) -> None:
    if not 1 <= shards <= MOST_SHARDS:
        raise UserError(f"--shards is {shards}: it must be between 1 and {MOST_SHARDS}")
    check_workers(workers)


def _refuse_to_mix(place: Place, plan: ShardPlan, work: Path, kind: Kind) -> None:
    """Raise UserError for files of something else, unless they may be replaced."""
    if kind.settings.overwrite:
        return
    if place.manifest.exists():
        listed = read_manifest(place.manifest)
        if listed.stream.set_id == plan.key:
            return
        made = {place.directory / Path(shard.file).parent for shard in listed.shards}
        told = plan.changes_since(min(made)) if len(made) == 1 else "other options or inputs"
        raise UserError(
            f"{place.manifest} exists already, of something else ({told}): pass --overwrite to "
            "replace it"
        )
    for folder in folders_of_shards(place.directory):
        if folder != work and has_finished_shards(folder):
            raise UserError(
                f"{one_line(place.directory)} holds unfinished shards of something else "
                f"({plan.changes_since(folder)}): repeat the command that began them to finish "
                "them, or pass --overwrite to begin again"
            )
    place.refuse_other_files(plan.key)
    tokenizer, existing = kind.given, place.directory / "tokenizer.json"
    if not existing.exists() or work.exists():
        return
    if tokenizer is None or Tokenizer.load(existing).hash != tokenizer.hash:
        raise UserError(
            f"{existing} is another tokenizer: use it with --tokenizer {existing.parent}, or pass "
            "--overwrite to replace it"
        )


@dataclass
class _Job:
    """The work on one set, step by step."""

    kind: Kind
    plan: ShardPlan
    inputs: InputSet
    parts: list[list[InputFile]]
    work: Path
    place: Place
    workers: int
    progress: ProgressFactory

    def made(self) -> Made:
        """Every shard, finished and checked, and what describes the whole."""
        self.work.mkdir(parents=True, exist_ok=True)
        for partial in self.work.glob(".*.partial-*"):  # of processes that were killed
            with contextlib.suppress(OSError):
                partial.unlink()
        replace_file(self.work / PLAN, self.plan.to_json())
        notes = self._tokenizer_notes()
        needed = not self.place.has_validation_of(self.plan.key)
        tokenizer = self.tokenizer
        settings = {**self.kind.for_workers(), "tokenizer_folder": str(self.work / TOKENIZER)}
        with open_pool(self.kind.worker, self.workers, settings) as pool:
            surveys = self._surveys(pool)
            counts, report = merged_counts(surveys), merged_report(surveys)
            notes += self.kind.notes(self.inputs, tokenizer, surveys, counts, report)
            split = self.kind.split(surveys, [self._shard(n) for n in range(len(self.parts))])
            stream = self._stream(tokenizer, split.rule)
            self._encode(pool, split, stream, surveys, needed=needed)
        records = [read_record(self._shard(n)) for n in range(len(self.parts))]
        found = [record for record in records if record is not None]
        if len(found) < len(records):
            raise UserError(f"a shard in {self.work} disappeared: run the same command again")
        trained = sum(shard.tokens for shard, _, _ in found)
        told = [of_shard for _, _, of_shard in found]
        notes += self.kind.notes_of_made(self.inputs, surveys, told, trained)
        if all("report" in of_shard for of_shard in told):
            report = merged_report(told)  # of more than the survey looks at
        if len(self.parts) < self.plan.options["--shards"]:
            notes.append(
                f"the inputs can be cut into {plural(len(self.parts), 'part')} of their size, so "
                "there are no more shards: a compressed file or a row group stays whole"
            )
        return Made(
            place=self.place,
            work=self.work,
            stream=stream,
            train=[shard for shard, _, _ in found],
            val=[val for _, val, _ in found],
            tokenizer=tokenizer,
            report=report if self.kind.settings.skip_bad else None,
            overwrite=self.kind.settings.overwrite,
            keep_validation=not needed,
            notes=notes,
        )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the set."""
        return self.kind.given or Tokenizer.load(self.work / TOKENIZER)

    def _tokenizer_notes(self) -> list[str]:
        """Put the tokenizer where the processes find it; it is trained only once."""
        folder = self.work / TOKENIZER
        if self.kind.given is not None:
            self.kind.given.save(folder)
            return []
        if (folder / "tokenizer.json").is_file():  # written last
            return []
        tokenizer, notes = self.kind.trained(self.inputs, self.progress)
        tokenizer.save(folder)
        return notes

    def _shard(self, number: int) -> Path:
        return self.work / shard_name(number)

    def _surveys(self, pool: Pool | Here) -> list[dict[str, Any]]:
        """What was counted in each shard, this time or before."""
        found = [read_survey(self._shard(n)) for n in range(len(self.parts))]
        todo = [n for n, survey in enumerate(found) if survey is None]
        tasks = [self._task("survey", n) for n in todo]
        total = sum(file.size for n in todo for file in self.parts[n])
        if tasks:
            with self.progress("reading", total) as update:
                for place, result in pool.run(tasks, update):
                    path = self._shard(todo[place])
                    replace_file(path.with_name(path.name + SURVEY), encode_json(result))
                    found[todo[place]] = result
        return [survey for survey in found if survey is not None]

    def _task(self, do: str, number: int, **more: Any) -> dict[str, Any]:
        files = [input_entry(file) for file in self.parts[number]]
        return {"do": do, "place": str(self._shard(number).resolve()), "files": files, **more}

    def _encode(
        self,
        pool: Pool | Here,
        split: Split,
        stream: Sidecar,
        surveys: Sequence[dict[str, Any]],
        *,
        needed: bool,
    ) -> None:
        finished = self._sound(pool, needed=needed)
        todo = [n for n in range(len(self.parts)) if n not in finished]
        tasks = [
            self._task("encode", n, facts=split.facts[n], sidecar=stream.to_plain()) for n in todo
        ]
        if tasks:
            # Encoding reports bytes on disk for conversations, and bytes of text for text.
            counted = "disk_bytes" if self.kind.masks else "text_bytes"
            total = sum(int(surveys[n]["counts"][counted]) for n in todo)
            with self.progress("encoding", total) as update:
                for _ in pool.run(tasks, update):
                    pass

    def _sound(self, pool: Pool | Here, *, needed: bool) -> set[int]:
        """The shards that were finished before, checked against their checksums."""
        begun = [n for n in range(len(self.parts)) if read_record(self._shard(n)) is not None]
        tasks = [self._task("verify", n, validation=needed) for n in begun]
        if not tasks:
            return set()
        sound = set()
        with self.progress("checking finished shards", 0) as update:
            for place, result in pool.run(tasks, update):
                update(0)
                if result["sound"]:
                    sound.add(begun[place])
        return sound

    def _stream(self, tokenizer: Tokenizer, rule: str) -> Sidecar:
        """The description of the whole, without what is not counted yet."""
        settings = self.kind.settings
        return Sidecar.of(
            tokenizer,
            num_tokens=0,
            num_documents=0,
            text_bytes=0,
            split="train",
            split_rule=rule,
            val_split=settings.val_split,
            seed=settings.seed,
            set_id=self.plan.key,
        )
