"""`pipeline.json`: what each stage of a pipeline has done. The pipeline's process owns it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.files import read_json, write_json
from shared.json_text import Json, is_number
from shared.run.directory import RunDirectory

PIPELINE = "pipeline.json"

WAITING, RUNNING, DONE, FAILED, SKIPPED = "waiting", "running", "done", "failed", "skipped"
STATUSES = frozenset({WAITING, RUNNING, DONE, FAILED, SKIPPED})


@dataclass(frozen=True)
class StageRecord:
    """One stage.

    `key` stands for the `settings` and `inputs` that the stage was last done with; `outputs` are
    the identities of what it wrote, by path. `facts` are what later stages and readers ask for
    (paths, rates, the run's id). `seconds` is the time of all attempts, `reason` why it failed or
    is skipped.
    """

    name: str
    status: str = WAITING
    key: str = ""
    settings: Json = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    facts: Json = field(default_factory=dict)
    reason: str = ""
    attempts: int = 0
    seconds: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None

    @classmethod
    def from_json(cls, name: str, value: Mapping[str, Any]) -> StageRecord:
        """Read any object. Fields that do not fit keep their defaults."""

        def text(key: str) -> str:
            found = value.get(key)
            return found if isinstance(found, str) else ""

        def mapping(key: str) -> Json:
            found = value.get(key)
            return dict(found) if isinstance(found, dict) else {}

        def number(key: str) -> float | None:
            found = value.get(key)
            return float(found) if is_number(found) else None  # type: ignore[arg-type]

        attempts = value.get("attempts")
        status = text("status")
        return cls(
            name=name,
            status=status if status in STATUSES else WAITING,
            key=text("key"),
            settings=mapping("settings"),
            inputs={k: v for k, v in mapping("inputs").items() if isinstance(v, str)},
            outputs={k: v for k, v in mapping("outputs").items() if isinstance(v, str)},
            facts=mapping("facts"),
            reason=text("reason"),
            attempts=attempts if type(attempts) is int and attempts >= 0 else 0,
            seconds=number("seconds") or 0.0,
            started_at=number("started_at"),
            ended_at=number("ended_at"),
        )


@dataclass(frozen=True)
class PipelineRecord:
    """The stages of a pipeline by name, in order, and its log (empty: none beside train.log)."""

    name: str = ""
    log: str = ""
    stages: Mapping[str, StageRecord] = field(default_factory=dict)

    def stage(self, name: str) -> StageRecord:
        """The record of a stage; a new one if there is none."""
        return self.stages.get(name) or StageRecord(name)

    def with_stage(self, record: StageRecord) -> PipelineRecord:
        """The same with another record of one stage."""
        return dataclasses.replace(self, stages={**self.stages, record.name: record})

    def to_json(self) -> Json:
        """The object written to `pipeline.json`."""
        stages = [dataclasses.asdict(record) for record in self.stages.values()]
        return {"schema_version": 1, "name": self.name, "log": self.log, "stages": stages}


def read_record(run: RunDirectory) -> PipelineRecord | None:
    """The record of a pipeline's run; None where there is none, or nothing readable."""
    value = read_json(run.path / PIPELINE)
    if value is None:
        return None
    name, log, stages = value.get("name"), value.get("log"), value.get("stages")
    found: dict[str, StageRecord] = {}
    for one in stages if isinstance(stages, list) else ():
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            found[one["name"]] = StageRecord.from_json(one["name"], one)
    return PipelineRecord(
        name if isinstance(name, str) else "", log if isinstance(log, str) else "", found
    )


def write_record(run: RunDirectory, record: PipelineRecord) -> None:
    """Replace the record, durably. Raises OSError."""
    write_json(run.path / PIPELINE, record.to_json())


def is_pipeline(run: RunDirectory) -> bool:
    """Whether the run is that of a pipeline: its stages have runs of their own."""
    return (run.path / PIPELINE).is_file()
