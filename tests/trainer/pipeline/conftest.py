"""Pipelines of stages that only write files, run in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.json_text import Json
from shared.run_writer import RunWriter
from trainer.config.section import Section
from trainer.loop.signals import StopSignals
from trainer.pipeline.config import PipelineConfig, schema_of
from trainer.pipeline.place import Place
from trainer.pipeline.records import StageRecord, read_record
from trainer.pipeline.runner import Hooks, Runner
from trainer.pipeline.stages.interface import Context, Outputs, Stage, Work


class FakeSection(Section):
    text: str = "a"


@dataclass
class Fake:
    """Writes what its setting, its input and the stage before say. `act` may raise."""

    name: str
    after: str | None = None
    source: Path | None = None
    skip: str = ""
    act: Callable[[Work], None] = lambda work: None
    done: int = 0
    title: str = "fake"
    section: type[Section] = field(default=FakeSection)

    def skipped(self, context: Context) -> str:
        return self.skip

    def settings(self, context: Context) -> Json:
        return {"text": context.config.section(self.name).text}

    def inputs(self, context: Context) -> Sequence[Path]:
        return [self.source] if self.source else []

    def needs(self, context: Context) -> Sequence[Path]:
        return context.outputs(self.after) if self.after else []

    def work(self, context: Context, work: Work) -> Outputs:
        self.act(work)
        self.done += 1
        before = "".join(path.read_text() for path in (*self.needs(context), *self.inputs(context)))
        context.place.outputs.mkdir(parents=True, exist_ok=True)
        path = context.place.outputs / self.name
        path.write_text(f"{before}{context.config.section(self.name).text}")
        return Outputs((path,), {"result": path.read_text()})


class Pipeline:
    """Runs stages in a folder, again and again."""

    def __init__(self, folder: Path, stages: Sequence[Fake]) -> None:
        self.folder, self.stages = folder, stages
        self.hooks = Hooks()
        self.run_writer: RunWriter | None = None

    def run(self, **texts: str) -> int:
        """Run it with settings of stages; returns the exit code."""
        schema = schema_of({stage.name: stage.section for stage in self.stages})
        values = {name: {"text": text} for name, text in texts.items()}
        config: PipelineConfig = schema.model_validate({"name": "fake", "log": None, **values})
        place = Place("fake", self.folder / "runs", self.folder / "outputs")
        old = self.run_writer.run if self.run_writer else None
        with StopSignals() as signals:
            self.run_writer = RunWriter(place.runs_dir, "fake", run=old)
            with self.run_writer as writer:
                stages: Sequence[Stage] = self.stages  # type: ignore[assignment]
                runner = Runner(
                    config, place, stages=stages, writer=writer, signals=signals, hooks=self.hooks
                )
                return runner.run()

    @property
    def done(self) -> list[int]:
        """How often each stage was done."""
        return [stage.done for stage in self.stages]

    def record(self, stage: str) -> StageRecord:
        assert self.run_writer is not None
        record = read_record(self.run_writer.run)
        assert record is not None
        return record.stage(stage)

    @property
    def log(self) -> str:
        assert self.run_writer is not None
        return self.run_writer.run.log_path.read_text()

    def text(self, stage: str) -> str:
        return (self.folder / "outputs" / stage).read_text()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.txt"
    path.write_text("s")
    return path


@pytest.fixture
def pipeline(tmp_path: Path, source: Path) -> Pipeline:
    """first (of a source) → second → fourth, and third beside them."""
    stages = [Fake("first", source=source), Fake("second", "first"), Fake("third")]
    return Pipeline(tmp_path, [*stages, Fake("fourth", "second")])
