"""What a stage of a pipeline is, and what it may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from shared.errors import RunError
from shared.json_text import Json
from trainer.config.resolve import Settings
from trainer.config.schema import Config
from trainer.config.section import Section
from trainer.pipeline.config import PipelineConfig
from trainer.pipeline.place import Place
from trainer.pipeline.records import StageRecord


class StageError(RunError):
    """A stage failed. The message is a sentence; the next start of the pipeline tries again."""


@dataclass(frozen=True)
class Outputs:
    """What a stage wrote: the files and folders, and facts about them for later stages."""

    paths: tuple[Path, ...]
    facts: Json = field(default_factory=dict)


class Work(Protocol):
    """What a stage that is at work may use. Every method may raise Stopped or StageError."""

    @property
    def place(self) -> Place:
        """Where outputs go."""

    @property
    def folder(self) -> Path:
        """The run directory of the pipeline."""

    def say(self, line: str) -> None:
        """Write a line to the log."""

    def command(self, *arguments: str, again: int = 0) -> str:
        """Run `trainer ARGUMENTS` and relay what it prints, which is returned (its end).

        A command that a signal killed, for want of memory or by a person, is run `again` so many
        times.
        """

    def train(self, stage: str, config: Config) -> Trained:
        """Train a run of this configuration, or continue the one that there is, to its end."""

    def serve(self, arguments: Sequence[str], ask: Any) -> Any:
        """Run `trainer serve ARGUMENTS` and return what `ask` makes of its address."""


@dataclass(frozen=True)
class Trained:
    """A completed run and its checkpoints: the newest, and the one with the lowest loss."""

    run_id: str
    path: Path
    newest: Path
    best: Path


@dataclass(frozen=True)
class Context:
    """A pipeline as a stage sees it: configuration, folders, and the stages before it."""

    config: PipelineConfig
    place: Place
    done: Mapping[str, StageRecord]

    def fact(self, stage: str, key: str) -> str | None:
        """A fact of an earlier stage that is done."""
        record = self.done.get(stage)
        found = record.facts.get(key) if record else None
        return found if isinstance(found, str) else None

    def outputs(self, stage: str) -> list[Path]:
        """What an earlier stage wrote; nothing if it is not done."""
        record = self.done.get(stage)
        return [Path(path) for path in record.outputs] if record else []

    def models(self) -> list[tuple[str, Path]]:
        """The stages that made a model, and its checkpoint, in order."""
        found = [(stage, self.fact(stage, "checkpoint")) for stage in ("supervised", "rl")]
        return [(stage, Path(path)) for stage, path in found if path is not None]

    def model(self) -> tuple[str, Path]:
        """The stage that made the newest model, and its checkpoint. Raises StageError."""
        models = self.models()
        if not models:
            raise StageError("there is no trained model yet: the stage supervised is not done.")
        return models[-1]


class Stage(Protocol):
    """One stage. Its section of the configuration has its name."""

    name: ClassVar[str]
    #: What its banner says.
    title: ClassVar[str]
    section: ClassVar[type[Section]]

    def skipped(self, context: Context) -> str:
        """Why this stage cannot or shall not be done here; empty if it can."""

    def settings(self, context: Context) -> Json:
        """What the outputs depend on, beside the inputs."""

    def inputs(self, context: Context) -> Sequence[Path]:
        """The files that the outputs depend on, beside those of earlier stages."""

    def needs(self, context: Context) -> Sequence[Path]:
        """The outputs of earlier stages that the outputs depend on. Raises StageError."""

    def work(self, context: Context, work: Work) -> Outputs:
        """Do it. Raises StageError with a sentence."""


def training_settings(config: Config) -> Settings:
    """The dotted settings of a training."""
    from trainer.config.resolve import flatten, to_plain

    return flatten(to_plain(config))
