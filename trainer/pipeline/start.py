"""Starting a pipeline: here, in the background, or through a daemon; found again by its folders."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from shared.control.daemons import DaemonView, watching
from shared.control.idle_run import IdleRun
from shared.control.launch import resume_detached, wait_until_running
from shared.errors import RunError, UserError
from shared.files import absolute_path, replace_file
from shared.ownership.lock import LockHeldError, RunLock
from shared.run.config import config_text
from shared.run.directory import RunDirectory, create_run
from shared.run.state import StateFile
from shared.run_writer import RunWriter
from shared.text import one_line
from trainer.alerts.alerter import alerts_of_run
from trainer.alerts.settings import load_settings
from trainer.launch.claim import check_writable, claim
from trainer.launch.git_commit import git_commit
from trainer.loop.signals import StopSignals
from trainer.pipeline.config import TIME, PipelineConfig, resolve
from trainer.pipeline.place import Place
from trainer.pipeline.records import PipelineRecord, is_pipeline, read_record, write_record
from trainer.pipeline.runner import Hooks, Runner, first_records
from trainer.pipeline.stages.interface import Context, Stage
from trainer.pipeline.stages.registry import STAGES, sections

PIPELINE_STAGE = "pipeline"  # the stage of the pipeline's own run

Mode = Literal["here", "detached", "queued"]


@dataclass(frozen=True)
class Started:
    """A pipeline that was left to another process: its run, its pid, the daemon that starts it."""

    run: RunDirectory
    pid: int | None = None
    status: str = "queued"
    daemon: DaemonView | None = None


def place_of(config: PipelineConfig, runs_dir: Path) -> Place:
    """Where a pipeline writes."""
    return Place(config.name, absolute_path(runs_dir), Path(config.outputs))


def check(config: PipelineConfig, place: Place) -> None:
    """What is wrong with the settings of any stage, before anything is written.

    Raises UserError.
    """
    context = Context(config, place, {})
    for stage in STAGES:
        stage.settings(context)
        stage.inputs(context)


def start(
    config: PipelineConfig, runs_dir: Path, mode: Mode = "here", hooks: Hooks | None = None
) -> int | Started:
    """Start a pipeline, or continue the one that writes into the same folders.

    Raises UserError, RunError when it cannot be started; LockHeldError while it runs already.
    """
    load_settings()  # wrong alert settings are told before anything begins
    place = place_of(config, runs_dir)
    check(config, place)
    check_writable(place.runs_dir)
    with _alone(place):
        run = noted_run(place) or _create(config, place)
        if mode == "here":
            return _run_here(run, config, place, hooks or Hooks(), supervised=False)
        lock = claim(run)
        try:
            _write_config(run, config)
            if mode == "queued":
                with IdleRun(run, lock) as record:
                    record.queue({})
        finally:
            lock.release()
    if mode == "queued":
        daemons = watching(place.runs_dir)
        return Started(run, daemon=daemons[0] if daemons else None)
    process = resume_detached(run)
    return Started(run, process.pid, wait_until_running(run, process))


def resume(run: RunDirectory, *, supervised: bool = False, hooks: Hooks | None = None) -> int:
    """Continue the pipeline of a run with its own configuration; returns the exit code."""
    config, place = config_of(run)
    with _alone(place):
        return _run_here(run, config, place, hooks or Hooks(), supervised=supervised)


def run_stages(
    config: PipelineConfig, runs_dir: Path, stages: Sequence[Stage], leave_out: str = ""
) -> int:
    """Do some stages of a pipeline here; returns the exit code."""
    place = place_of(config, runs_dir)
    chosen = [stage for stage in stages if stage.name != leave_out]
    with _alone(place):
        run = noted_run(place) or _create(config, place)
        return _run_here(run, config, place, Hooks(), supervised=False, stages=chosen)


def config_of(run: RunDirectory) -> tuple[PipelineConfig, Place]:
    """The configuration of a pipeline's run. Raises UserError."""
    from trainer.pipeline.config import read_mapping

    raw = read_mapping(run.config_path)
    raw.pop("train", None)
    config = resolve(raw, sections(), where=f"The config.yaml of {one_line(run.run_id)}")
    return config, place_of(config, run.path.parent)


def _run_here(
    run: RunDirectory,
    config: PipelineConfig,
    place: Place,
    hooks: Hooks,
    *,
    supervised: bool,
    stages: Sequence[Stage] = STAGES,
) -> int:
    with contextlib.ExitStack() as cleanup:
        signals = cleanup.enter_context(StopSignals())
        lock = claim(run)
        cleanup.callback(lock.release)
        _write_config(run, config)
        log = record_of(run).log
        if log and not os.path.lexists(log):
            _link_log(Path(log), run)
        alerter = alerts_of_run(run, strict=not supervised)
        if alerter is not None:
            cleanup.callback(alerter.close)
        reset: dict[str, Any] = {} if supervised else {"paused": False}
        writer = RunWriter(
            run=run,
            lock=lock,
            listener=None if alerter is None else partial(alerter.notice, run),
            run_name=place.name,
            current_step=0,
            max_steps=len(stages),
            supervised=supervised,
            git_commit=git_commit(),
            group=place.name,
            stage=PIPELINE_STAGE,
            **reset,
        )
        with writer:
            runner = Runner(
                config, place, stages=stages, writer=writer, signals=signals, hooks=hooks
            )
            return runner.run()


# -- the run -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _alone(place: Place) -> Iterator[None]:
    """While entered, no other pipeline writes into these folders."""
    lock = RunLock(place.lock_path)
    try:
        place.outputs.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except LockHeldError as error:
        raise PipelineHeldError(place, str(error.holder or "another process")) from error
    except OSError as error:
        raise RunError(
            f"Cannot write in {one_line(place.outputs)}: {error.strerror}; set outputs to a folder "
            "that can be written."
        ) from error
    try:
        yield
    finally:
        lock.release()


class PipelineHeldError(UserError):
    """Another process runs the pipeline."""

    def __init__(self, place: Place, holder: str) -> None:
        super().__init__(
            f"The pipeline {place.name} in {one_line(place.outputs)} is run by {holder}; stop it "
            f"with `trainer stop {place.name}`, or watch it with train-monitor."
        )


def noted_run(place: Place) -> RunDirectory | None:
    """The run of the pipeline that writes into these folders, if there is one.

    Raises UserError when it is in another runs directory.
    """
    try:
        noted = place.note_path.read_text(errors="replace").strip()
    except OSError:
        return None
    run = RunDirectory(Path(noted))
    if not noted or not is_pipeline(run):
        return None
    if run.path.parent.resolve() != place.runs_dir.resolve():
        raise UserError(
            f"The pipeline {place.name} in {one_line(place.outputs)} has its runs in "
            f"{one_line(run.path.parent)}; give that as --runs-dir, or choose another name or "
            "outputs."
        )
    return run


def _create(config: PipelineConfig, place: Place) -> RunDirectory:
    """A new run for a pipeline, and the note by which it is found again."""
    run = create_run(place.runs_dir, place.name)
    log = ""
    if config.log is not None:
        stamp = time.strftime("%Y%m%d_%H%M%S")
        log = str(absolute_path(config.log.replace(TIME, stamp)))
        _link_log(Path(log), run)
    _write_config(run, config)
    write_record(run, first_records(STAGES, place, log))
    StateFile(run).update(
        run_name=place.name,
        status="queued",
        max_steps=len(STAGES),
        started_at=time.time(),
        group=place.name,
        stage=PIPELINE_STAGE,
    )
    replace_file(place.note_path, f"{run.path}\n".encode())
    return run


def _link_log(log: Path, run: RunDirectory) -> None:
    """Make `log` a link to train.log: one log, wherever the pipeline runs. Raises UserError."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        run.log_path.touch()
        if log.is_symlink():
            log.unlink()
        log.symlink_to(os.path.relpath(run.log_path, log.parent.resolve()))
    except OSError as error:
        raise UserError(
            f"The log {one_line(log)} cannot be made: {error.strerror}; set log to another path, "
            "or to null."
        ) from error


def _write_config(run: RunDirectory, config: PipelineConfig) -> None:
    """Keep the configuration with the run; `train.device` tells a daemon what it computes on."""
    value = {**config.model_dump(mode="json"), "train": {"device": config.device}}
    replace_file(run.config_path, config_text(value).encode())


def record_of(run: RunDirectory) -> PipelineRecord:
    """The stages of a pipeline's run."""
    return read_record(run) or PipelineRecord()
