"""The stages of a pipeline, one after the other: kept, done or skipped, and what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from shared.errors import ExitCode, UserError
from shared.run_writer import RunWriter
from shared.text import format_duration, one_line
from trainer.daemon.policy import RestartLimits
from trainer.launch.requeue import requeue
from trainer.loop.signals import StopSignals
from trainer.pipeline.children import Launch, start_child
from trainer.pipeline.config import PipelineConfig
from trainer.pipeline.following import Following
from trainer.pipeline.identity import GONE, identities
from trainer.pipeline.means import Means
from trainer.pipeline.place import Place
from trainer.pipeline.records import (
    DONE,
    FAILED,
    RUNNING,
    SKIPPED,
    WAITING,
    PipelineRecord,
    StageRecord,
    read_record,
    write_record,
)
from trainer.pipeline.stages.interface import Context, Stage, StageError
from trainer.pipeline.steering import Steering, Stopped
from trainer.pipeline.verdict import Wanted, verdict_of, wanted_of
from trainer.pipeline.working import Working


@dataclass(frozen=True)
class Hooks:
    """For tests: how children are started, and what is called when a stage begins or has ended."""

    launch: Launch = start_child
    at: Callable[[str, str], None] = lambda stage, moment: None
    limits: RestartLimits = field(default_factory=RestartLimits)


class Runner:
    """Runs a pipeline whose run this process owns."""

    def __init__(
        self,
        config: PipelineConfig,
        place: Place,
        *,
        stages: Sequence[Stage],
        writer: RunWriter,
        signals: StopSignals,
        hooks: Hooks,
    ) -> None:
        self._config, self._place, self._stages = config, place, stages
        self._writer, self._signals, self._hooks = writer, signals, hooks
        self._record = read_record(writer.run) or PipelineRecord(place.name)
        self._steering = Steering(writer, signals)
        self._following = Following(writer, self._steering)
        limits = dataclasses.replace(hooks.limits, max_restarts=config.max_restarts)
        means = Means(self._following, self._steering, hooks.launch, limits)
        self._working = Working(place, writer.run, means)

    def run(self) -> int:
        """Do every stage that is not done; returns the exit code, which is in the run's record."""
        writer, name = self._writer, ""
        writer.set_status("running")
        try:
            for number, stage in enumerate(self._stages):
                name = stage.name
                self._steering.look()
                self._steering.check()
                self._one(number, stage)
                writer.update(current_step=number + 1)
        except Stopped as stop:
            self._interrupted(name, stop.reason)
            writer.say(f"[INFO] {stop.reason}; the next start continues stage {name}")
            writer.finish(stop.status, stop.code, stop.reason)
            if stop.code == ExitCode.REQUEUE and not self._working.trains:
                requeue(writer.run, self._signals.received, os.environ)
            return int(stop.code)
        except (UserError, OSError) as error:
            reason = _sentence(error)
            self._failed(name, reason)
            told = f"Stage {name} failed: {reason}"
            writer.say(f"[ERROR] {told}")
            writer.say(f"[INFO] The next start tries stage {name} again; what is done is kept")
            writer.finish("failed", ExitCode.FAILURE, told)
            return int(ExitCode.FAILURE)
        writer.set_phase("done", len(self._stages))
        writer.say("[INFO] PHASE done: every stage is done")
        for line in self._results():
            writer.say(f"[INFO] {line}")
        writer.finish("completed", ExitCode.OK, "every stage is done")
        return int(ExitCode.OK)

    # -- one stage -----------------------------------------------------------------------

    def _one(self, number: int, stage: Stage) -> None:
        context = Context(self._config, self._place, self._done())
        before = self._record.stage(stage.name)
        wanted = wanted_of(stage, context)
        verdict = verdict_of(stage, context, before, wanted)
        title = f"PHASE {number}: {stage.title}"
        self._writer.set_phase(stage.name, number)
        self._following.phase = lambda: f"[INFO] {title}{self._progress(stage.name)}"
        self._following.say(f"[INFO] ==== {title} ====")
        self._following.say(f"[INFO] {stage.name}: {verdict.why}")
        if verdict.action == "keep":
            return
        if verdict.action == "skip":
            self._put(
                dataclasses.replace(
                    before, status=SKIPPED, key="", outputs={}, facts={}, reason=verdict.why
                )
            )
            self._writer.event("stage", stage=stage.name, status=SKIPPED, message=verdict.why)
            return
        self._steering.wait_while_paused(self._following.pause)
        self._work(stage, context, before, wanted)

    def _work(self, stage: Stage, context: Context, before: StageRecord, wanted: Wanted) -> None:
        began, clock = time.time(), time.monotonic()
        running = dataclasses.replace(
            before,
            status=RUNNING,
            key="",
            settings=dict(wanted.settings),
            reason="",
            attempts=before.attempts + 1,
            started_at=began,
            ended_at=None,
        )
        self._put(running)
        self._writer.event("stage", stage=stage.name, status=RUNNING)
        self._hooks.at(stage.name, "begins")
        try:
            outputs = stage.work(context, self._working)
        finally:
            spent = before.seconds + time.monotonic() - clock
            self._put_if_possible(dataclasses.replace(running, seconds=spent))
        self._hooks.at(stage.name, "worked")
        found = identities(outputs.paths)
        lost = [path for path, identity in found.items() if identity == GONE]
        if lost:
            raise StageError(f"{one_line(lost[0])} is not there, or not whole, after the stage.")
        self._put(
            dataclasses.replace(
                running,
                status=DONE,
                key=wanted.key,
                inputs=dict(wanted.inputs),
                outputs=found,
                facts=outputs.facts,
                seconds=spent,
                ended_at=time.time(),
            )
        )
        self._writer.event(
            "stage", stage=stage.name, status=DONE, seconds=spent, facts=outputs.facts
        )
        self._following.phase = str
        self._following.say(f"[INFO] {stage.name}: done in {format_duration(spent)}")
        self._hooks.at(stage.name, "done")

    def _done(self) -> dict[str, StageRecord]:
        return {n: record for n, record in self._record.stages.items() if record.status == DONE}

    def _progress(self, stage: str) -> str:
        run = self._working.training_run
        state = run.read_state() if run is not None else None
        if state is None or not state.max_steps:
            return ""
        left = f", {format_duration(state.eta_seconds)} left" if state.eta_seconds else ""
        return f", step {state.current_step:,} of {state.max_steps:,}{left}"

    # -- the record ----------------------------------------------------------------------

    def _put(self, record: StageRecord) -> None:
        self._record = self._record.with_stage(record)
        write_record(self._writer.run, self._record)

    def _put_if_possible(self, record: StageRecord) -> None:
        """On a full disk the way the pipeline ends, and its exit code, stay what they are."""
        with contextlib.suppress(OSError):
            self._put(record)

    def _interrupted(self, name: str, reason: str) -> None:
        record = self._record.stage(name)
        if record.status == RUNNING:
            self._put_if_possible(dataclasses.replace(record, status=WAITING, reason=reason))

    def _failed(self, name: str, reason: str) -> None:
        record = self._record.stage(name)
        failed = dataclasses.replace(record, status=FAILED, reason=reason, ended_at=time.time())
        self._put_if_possible(failed)
        self._writer.event("stage", stage=name, status=FAILED, message=reason)

    def _results(self) -> list[str]:
        """What the stages say about what they made, for the end of the log."""
        return [
            f"{name}: {one_line(record.facts['result'], 500)}"
            for name, record in self._record.stages.items()
            if record.facts.get("result")
        ]


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        place = f"{one_line(error.filename)}: " if error.filename else ""
        return f"{place}{error.strerror or one_line(error)}."
    return one_line(error, 2000)


def first_records(stages: Sequence[Stage], place: Place, log: str) -> PipelineRecord:
    """The record of a pipeline that has done nothing yet."""
    return PipelineRecord(place.name, log, {s.name: StageRecord(s.name) for s in stages})
