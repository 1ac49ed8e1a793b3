"""Which checkpoint is meant, and what it and its run tell about the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from shared.checkpoints.catalogue import (
    ADAPTER_CONFIG,
    BEST,
    LATEST,
    META,
    TRAINER_STATE,
    is_adapter,
    list_checkpoints,
    newest_sound,
)
from shared.checkpoints.evaluation import Evaluation as DataEvaluation
from shared.checkpoints.evaluation import Speed, read_evaluations, read_speeds
from shared.checkpoints.manifest import Manifest, read_manifest
from shared.checkpoints.owner import owner_of
from shared.checkpoints.prune import named
from shared.checkpoints.suites import SuiteResult, read_suites
from shared.errors import RunError, UserError
from shared.files import read_json
from shared.json_text import Json, is_number
from shared.run.directory import RunDirectory
from shared.run.metrics_log import MetricsTable
from shared.run.metrics_rows import Floats, Ints, Series
from shared.run.record_lines import parse_lines
from shared.run.records import RunState
from shared.run.tail import Tailer
from shared.text import one_line

_SERIES = ("loss", "val_loss", "val_perplexity", "val_bits_per_byte", "step_time_ms")
_READ = 8 << 20
_MAX_CONFIG = 1 << 20


@dataclass(frozen=True)
class Source:
    """A checkpoint folder, and the run it belongs to if there is one."""

    folder: Path
    run: RunDirectory | None = None

    @property
    def name(self) -> str:
        """The folder's name: `step_500`, `final`."""
        return self.folder.name


def find_source(run_or_folder: RunDirectory | Path, checkpoint: str = "") -> Source:
    """The checkpoint meant: of a run the one named, its best or its newest; or that folder.

    Raises UserError, or RunError when none is sound.
    """
    if isinstance(run_or_folder, RunDirectory):
        run = run_or_folder
        folder = run.checkpoints.resolve()
        return Source(folder / _chosen(folder, checkpoint), run)
    folder = run_or_folder.resolve()
    if not (folder / "config.json").is_file() and not is_adapter(folder):
        raise UserError(
            f"{one_line(run_or_folder)} is not a checkpoint: it has no config.json; give a run, or "
            "a folder such as runs/RUN/checkpoints/step_500."
        )
    return Source(folder, _run_of(folder.parent))


def _chosen(checkpoints: Path, text: str) -> str:
    listed = list_checkpoints(checkpoints)
    if not listed:
        raise UserError(f"{one_line(checkpoints)} holds no checkpoints: there is nothing to send.")
    if text and text not in (LATEST, BEST):
        return named(checkpoints, text)
    if text != LATEST:
        best = [info for info in listed if info.is_best and info.whole]
        if best and (text == BEST or best[0].cost is not None):
            return best[0].name
        if text == BEST:
            raise UserError(f"{one_line(checkpoints)} has no intact best checkpoint; name a step.")
    newest, problems = newest_sound(checkpoints)
    if newest is None:
        raise RunError(f"No checkpoint in {one_line(checkpoints)} is sound: {problems[0]}.")
    return newest.name


def _run_of(checkpoints: Path) -> RunDirectory | None:
    """The run whose checkpoints these are: they lie in it, or name it as their owner."""
    if checkpoints.name == "checkpoints":
        run = RunDirectory(checkpoints.parent)
        if run.state_path.is_file() and run.checkpoints.resolve() == checkpoints:
            return run
    owner = owner_of(checkpoints)
    return owner if owner is not None and owner.state_path.is_file() else None


# -- what is known -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """Measured on the validation data at `step`; None for what was not."""

    step: int
    loss: float
    perplexity: float | None = None
    bits_per_byte: float | None = None


@dataclass(frozen=True)
class Curve:
    """The losses up to the checkpoint: `steps[i]`, `values[i]`, each of shape (N,)."""

    loss: Series
    val_loss: Series

    def __bool__(self) -> bool:
        return bool(np.isfinite(self.loss.values).any() or np.isfinite(self.val_loss.values).any())

    @property
    def nonfinite(self) -> int:
        """Steps with a NaN or infinite loss."""
        return int((~np.isfinite(self.loss.values)).sum())


@dataclass(frozen=True)
class Facts:
    """Everything the card tells, read from files that anybody may have written.

    `architecture` is config.json, `adapter` that of adapters, which have no config.json; `settings`
    the run's configuration, `progress` the trainer's state at the checkpoint. `seconds` is the time
    its optimizer steps took, `evaluations`, `speeds` and `suites` what was measured since
    (eval.json).
    """

    name: str
    step: int
    architecture: Json
    settings: Json
    progress: Json
    manifest: Manifest | None
    state: RunState
    curve: Curve
    evaluation: Evaluation | None
    seconds: float | None
    stated: Mapping[str, str] = field(default_factory=dict)
    evaluations: tuple[DataEvaluation, ...] = ()
    speeds: tuple[Speed, ...] = ()
    suites: tuple[SuiteResult, ...] = ()
    adapter: Json = field(default_factory=dict)

    def setting(self, path: str) -> str | int | float | None:
        """A scalar of the configuration, such as `optim.learning_rate`."""
        value: Any = self.settings
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, (str, int, float)) else None

    def number(self, key: str) -> float | None:
        """A finite number of the trainer's state at the checkpoint, or of its manifest."""
        for place in (self.progress, self.manifest.facts if self.manifest else {}):
            value: Any = place.get(key)
            if is_number(value) and math.isfinite(value):
                return float(value)
        return None


def read_facts(source: Source, stated: Mapping[str, str] | None = None) -> Facts:
    """What the files of a checkpoint and of its run tell. Never fails for what is in them."""
    folder, run = source.folder, source.run
    manifest = read_manifest(folder)
    progress = read_json(folder / TRAINER_STATE) or {}
    step = manifest.step if manifest else _count(progress.get("step"))
    curve, measured = _curves(run.metrics_path if run else None, step)
    times = measured.series("step_time_ms").values
    seconds = float(times[np.isfinite(times)].sum()) / 1000 if len(times) else None
    facts = Facts(
        name=source.name,
        step=step,
        architecture=read_json(folder / "config.json") or {},
        adapter=(read_json(folder / ADAPTER_CONFIG) or {}) if is_adapter(folder) else {},
        settings=read_configuration(source),
        progress=progress,
        manifest=manifest,
        state=(run.read_state() if run else None) or RunState(),
        curve=curve,
        evaluation=None,
        seconds=seconds,
        stated=dict(stated or {}),
        evaluations=tuple(read_evaluations(folder)),
        speeds=tuple(read_speeds(folder)),
        suites=tuple(read_suites(folder)),
    )
    return _with_evaluation(facts, measured)


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def read_configuration(source: Source) -> Json:
    """The run's `config.yaml`, or the copy in the checkpoint."""
    value: Any = None
    if source.run:
        try:
            data = source.run.config_path.read_bytes()
            value = yaml.safe_load(data) if len(data) < _MAX_CONFIG else None
        except (OSError, ValueError, RecursionError, yaml.YAMLError):
            value = None
    if not isinstance(value, dict):
        value = (read_json(source.folder / META) or {}).get("config")
    return value if isinstance(value, dict) else {}


def _curves(path: Path | None, step: int) -> tuple[Curve, MetricsTable]:
    """The few series a card needs, read in pieces: a log of a million steps has many more."""
    table = MetricsTable()
    keep = {"step", "attempt", "nonfinite", *_SERIES}
    if path is not None:
        tailer = Tailer(path)
        while True:
            chunk = tailer.read(_READ)
            records, _ = parse_lines(chunk.lines)
            table.add_records(
                [
                    {key: record[key] for key in record if key in keep}
                    for record in records
                    if not is_number(record.get("step")) or record["step"] <= step
                ]
            )
            if not chunk.more:
                break
    return Curve(table.series("loss"), table.series("val_loss")), table


def _with_evaluation(facts: Facts, table: MetricsTable) -> Facts:
    """The newest finite validation loss up to the checkpoint, and what was measured with it."""
    steps, losses = table.series("val_loss").steps, table.series("val_loss").values
    finite = np.flatnonzero(np.isfinite(losses))
    if len(finite):
        step, loss = int(steps[finite[-1]]), float(losses[finite[-1]])
        perplexity = _at(table.series("val_perplexity"), step)
        bits = _at(table.series("val_bits_per_byte"), step)
        return replace(facts, evaluation=Evaluation(step, loss, perplexity, bits))
    loss_told = facts.number("val_loss")
    if loss_told is None:
        return facts
    perplexity = math.exp(loss_told) if loss_told < 700 else None
    return replace(facts, evaluation=Evaluation(facts.step, loss_told, perplexity))


def _at(series: Series, step: int) -> float | None:
    steps: Ints = series.steps
    values: Floats = series.values
    place = int(np.searchsorted(steps, step))
    if place >= len(steps) or steps[place] != step or not math.isfinite(values[place]):
        return None
    return float(values[place])
