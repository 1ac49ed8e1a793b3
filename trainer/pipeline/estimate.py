"""`trainer pipeline --dry-run`: the plan with sizes, and hours from a few measured steps.

The stages are done once in miniature, in a temporary folder: the model, the batches and the answers
have the sizes asked for, but there are only a few steps, on generated tasks.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import ExitCode, RunError
from shared.run.directory import RunDirectory
from shared.run.record_lines import read_records
from shared.text import format_bytes, format_count, one_line
from trainer.data.inputs import find_inputs
from trainer.pipeline.config import PipelineConfig, resolve
from trainer.pipeline.place import Place
from trainer.pipeline.records import DONE, PipelineRecord, StageRecord, read_record
from trainer.pipeline.stages.interface import Context
from trainer.pipeline.stages.registry import STAGES, sections
from trainer.pipeline.stages.training_section import Layered
from trainer.pipeline.start import check, noted_run, place_of, run_stages
from trainer.pipeline.verdict import verdict_of, wanted_of

_STEPS, _ITERATIONS = 6, 2  # of the miniature
_TASKS = 48
_BYTES_PER_TOKEN = 3.6  # of source code, with a vocabulary of thousands
_GUIDE = {"supervised": "12-18 hours in the guide", "rl": "6-8 hours in the guide"}
_NEVER = 10**9


@dataclass(frozen=True)
class Measured:
    """What the miniature came to. Seconds are of a step, an iteration of one group, an answer."""

    parameters: int | None = None
    checkpoint_bytes: int | None = None
    gguf_bytes: int | None = None
    step: float | None = None
    iteration: float | None = None
    answer: float | None = None
    device: str = ""
    problem: str = ""


def estimate(
    config: PipelineConfig,
    runs_dir: Path,
    *,
    measure: bool = True,
    tell: Callable[[str], None] = lambda doing: None,
) -> list[str]:
    """The plan as lines for a person. `tell` receives what is being done. Raises UserError."""
    place = place_of(config, runs_dir)
    check(config, place)
    run = noted_run(place)
    record = (read_record(run) if run is not None else None) or PipelineRecord(config.name)
    lines = [f"pipeline {config.name}, outputs in {one_line(place.outputs)}"]
    lines += _verdicts(config, place, record)
    measured = Measured(problem="not measured")
    if measure:
        tell("measuring a few steps of each kind")
        measured = measured_in_miniature(config)
    return [*lines, "", *_sizes(config, record, measured), "", *hours_told(config, measured)]


def _verdicts(config: PipelineConfig, place: Place, record: PipelineRecord) -> list[str]:
    """What would happen to each stage."""
    lines: list[str] = []
    done: dict[str, StageRecord] = {}
    stale = ""
    for number, stage in enumerate(STAGES):
        before = record.stage(stage.name)
        context = Context(config, place, done)
        if stale:
            skipped = stage.skipped(context) if stage.name != "rl" else ""
            why = f"skipped: {skipped}" if skipped else f"follows {stale}"
        else:
            verdict = verdict_of(stage, context, before, wanted_of(stage, context))
            why = verdict.why
            if verdict.action == "keep":
                done[stage.name] = before
            elif verdict.action == "do":
                stale = stage.name
        lines.append(f"PHASE {number}: {stage.title}: {why}")
    return lines


# -- the miniature -----------------------------------------------------------------------------


def measured_in_miniature(config: PipelineConfig) -> Measured:
    """Do a few steps of every stage but the last, and measure them."""
    with tempfile.TemporaryDirectory(prefix="trainer-dry-run-") as folder:
        small = miniature(config, Path(folder))
        console = io.StringIO()
        with contextlib.redirect_stdout(console):
            code = run_stages(small, Path(folder) / "runs", STAGES[:-1], leave_out="evaluation")
        place = place_of(small, Path(folder) / "runs")
        run = noted_run(place)
        record = (read_record(run) if run is not None else None) or PipelineRecord()
        found = _read(record, place)
        if code == ExitCode.REQUEUE:
            raise RunError("The measurement of a dry run was interrupted; nothing was started.")
        if code:
            said = console.getvalue().strip().splitlines() or ["it ended"]
            error = next((x for x in reversed(said) if x.startswith("[ERROR]")), said[-1])
            return Measured(**{**vars(found), "problem": one_line(error, 400)})
        return found


def miniature(config: PipelineConfig, folder: Path) -> PipelineConfig:
    """The same sizes with few steps, on generated tasks of bytes."""
    raw = config.model_dump(mode="json")
    vocabulary = None if raw["prepare"]["tokens"] else raw["prepare"]["vocab_size"]
    raw |= {"name": "dry-run", "outputs": str(folder / "outputs"), "log": None, "max_restarts": 0}
    raw["prepare"] = {"tasks": _TASKS, "kind": "char", "language": raw["prepare"]["language"]}
    supervised, rl = raw["supervised"], raw["rl"]
    quiet = {"interval": _NEVER, "sample_interval": 0}
    supervised["train"] |= {"max_steps": _STEPS, "epochs": None, "max_hours": None}
    supervised["eval"] |= quiet
    supervised["checkpoint"] = {"interval": _NEVER}
    if vocabulary is not None and supervised["model"].get("vocab_size") is None:
        supervised["model"]["vocab_size"] = vocabulary
    rl["rl"] |= {
        "iterations": _ITERATIONS,
        "prompts_per_iteration": 1,
        "refill": 0,
        "min_pass_rate": 0.0,
        "curriculum": False,
        "val_prompts": None,  # judging those that are held out is no part of an iteration
    }
    rl["rl"].pop("prompts", None)
    rl["train"] = {k: v for k, v in rl["train"].items() if k not in _RL_SIZES}
    rl["eval"] |= quiet
    rl["checkpoint"] = {"interval": _NEVER}
    return resolve(raw, sections(), where="the miniature")


_RL_SIZES = ("batch_size", "accumulation_steps", "max_steps")


def _read(record: PipelineRecord, place: Place) -> Measured:
    """What the runs of the miniature say."""
    found: dict[str, Any] = {}
    supervised, rl = record.stage("supervised"), record.stage("rl")
    run = _run_of(supervised, place)
    if run is not None and (state := run.read_state()) is not None:
        parameters = state.model.get("parameters")
        found["parameters"] = parameters if type(parameters) is int else None
        found["device"] = state.device
        times = [r["step_time_ms"] for r in read_records(run.metrics_path) if "step_time_ms" in r]
        if times:
            found["step"] = statistics.median(times[len(times) // 2 :]) / 1000
        newest = supervised.facts.get("newest")
        if isinstance(newest, str):
            found["checkpoint_bytes"] = _bytes(Path(newest))
    run = _run_of(rl, place)
    if run is not None:
        records = [r for r in read_records(run.metrics_path) if "rollout_seconds" in r]
        times = [r["step_time_ms"] for r in records if "step_time_ms" in r]
        if times:
            found["iteration"] = min(times) / 1000  # the first one warms up
        if records:
            found["answer"] = records[-1]["rollout_seconds"] + records[-1].get("reward_seconds", 0)
    size = record.stage("export").facts.get("bytes")
    found["gguf_bytes"] = size if type(size) is int else None
    if rl.status != DONE and not found.get("problem"):
        found["problem"] = one_line(rl.reason, 300)
    return Measured(**found)


def _run_of(record: StageRecord, place: Place) -> RunDirectory | None:
    name = record.facts.get("run_id")
    return RunDirectory(place.runs_dir / name) if isinstance(name, str) else None


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


# -- the lines ---------------------------------------------------------------------------------


def _sizes(config: PipelineConfig, record: PipelineRecord, measured: Measured) -> list[str]:
    supervised = Layered(config, "supervised")
    merged = {**supervised.source, **supervised.own}
    keep, top = merged.get("checkpoint.keep_last", 3), merged.get("checkpoint.save_top_k", 1)
    lines = [f"tokens:       {_tokens(config, record)}"]
    if measured.parameters is not None:
        lines.append(f"parameters:   {format_count(measured.parameters)}")
    if measured.checkpoint_bytes is not None:
        each, count = measured.checkpoint_bytes, keep + top
        lines.append(
            f"checkpoints:  {format_bytes(each)} each, at most {count} of a stage are kept: "
            f"{format_bytes(2 * count * each)} for both trainings"
        )
    if measured.gguf_bytes is not None:
        quant = config.section("export").quant
        lines.append(f"GGUF file:    {format_bytes(measured.gguf_bytes)} as {quant}")
    return lines


def _tokens(config: PipelineConfig, record: PipelineRecord) -> str:
    known = record.stage("prepare").facts.get("tokens")
    if record.stage("prepare").status == DONE and type(known) is int:
        return f"{known:,}"
    asked = config.section("prepare")
    if asked.tokens:
        return f"those of {one_line(asked.tokens)}"
    size = sum(f.path.stat().st_size for f in find_inputs(asked.text).files) if asked.text else 0
    tasks = f"the text of {asked.tasks:,} generated tasks" if asked.tasks else ""
    about = f"about {format_count(size / _BYTES_PER_TOKEN)} ({format_bytes(size)} of text)"
    return " and ".join(part for part in (about if size else "", tasks) if part)


def hours_told(config: PipelineConfig, measured: Measured) -> list[str]:
    """Hours of each phase that takes long, beside the guide's."""
    supervised, rl = Layered(config, "supervised"), Layered(config, "rl", preset="rl")
    steps = {**supervised.source, **supervised.own}.get("train.max_steps")
    settings = {**rl.source, **rl.own}
    iterations = settings.get("rl.iterations", 100)
    prompts = settings.get("rl.prompts_per_iteration", 8)
    group = settings.get("rl.group_size", 16)
    lines = [f"measured on {measured.device}:" if measured.device else "hours:"]
    if measured.step is not None and isinstance(steps, int):
        lines.append(
            f"  supervised: {_time(measured.step)} per step, {steps:,} steps: "
            f"{_time(measured.step * steps)} ({_GUIDE['supervised']})"
        )
    if measured.iteration is not None:
        each = measured.iteration * prompts
        lines.append(
            f"  rl:         {_time(each)} per iteration, {iterations:,} iterations: at most "
            f"{_time(each * iterations)}, with answers of full length ({_GUIDE['rl']})"
        )
    if measured.answer is not None:
        asked = config.section("evaluation")
        tasks = asked.max_tasks or config.section("prepare").tasks
        count = 2 * tasks * asked.samples * len(asked.suites)
        lines.append(
            f"  evaluation: {count:,} answers: at most {_time(measured.answer / group * count)}"
        )
    if measured.problem:
        lines.append(f"  {measured.problem}")
    return lines


def _time(seconds: float) -> str:
    """`210 ms`, `12 s`, `1.3 hours`."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} hours"
