"""A run as a folder with an event file of TensorBoard's."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.export.curves import Curves, Facts, Point, Setting
from shared.export.folders import Target
from shared.foreign.event_proto import message
from shared.foreign.event_records import framed
from shared.text import plural

_FILE = re.compile(r"events\.out\.tfevents\.\d+\.train-monitor")
_GREATEST = 3.4028234663852886e38  # of a float of 32 bits
_COMPLETED, _FAILED, _RUNNING = 1, 2, 3
_TEXT, _TRUTH, _NUMBER = 1, 2, 3  # TensorBoard's types of settings


@dataclass(frozen=True)
class Written:
    """The folder that was made; `notes` are sentences on what it cannot hold."""

    folder: Path
    bytes: int
    notes: tuple[str, ...] = ()


def tensorboard_target(facts: Facts, logs: Path, *, force: bool) -> Target:
    """The folder of a run in the folder `logs`, which `tensorboard --logdir` shows."""
    return Target(logs, facts.run_id, lambda name: bool(_FILE.fullmatch(name)), force)


def export_tensorboard(facts: Facts, curves: Curves, target: Target) -> Written:
    """Write every value as a scalar at its step and time, and the configuration as hparams.

    TensorBoard's scalars have 32 bits. Raises UserError or RunError.
    """
    began = facts.started_at
    events = _Events(facts, curves)
    with target.filled() as place:
        first = began if began is not None else time.time()
        path = place / f"events.out.tfevents.{int(first)}.train-monitor"
        with path.open("wb") as file:
            size = sum(file.write(framed(data)) for data in events.encoded())
            file.flush()
            os.fsync(file.fileno())
    return Written(target.path, size, events.notes)


class _Events:
    """The events of a run."""

    def __init__(self, facts: Facts, curves: Curves) -> None:
        self._facts, self._curves = facts, curves
        self._too_large = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what is not as it was."""
        if not self._too_large:
            return ()
        verb = "is" if self._too_large == 1 else "are"
        return (
            f"{plural(self._too_large, 'value')} too large for TensorBoard's 32 bits {verb} inf",
        )

    def encoded(self) -> Iterator[bytes]:
        """The data of one record after the other."""
        event = message("Event")
        facts = self._facts
        points = self._curves.points(facts.started_at)
        first = next(points)
        yield event(wall_time=first.time, file_version="brain.Event:2").SerializeToString()
        for told in self._settings():
            yield event(wall_time=first.time, summary={"value": [told]}).SerializeToString()
        yield self._of(first)
        last = first
        for last in points:
            yield self._of(last)
        if facts.config and facts.code is not None:
            ended = facts.ended_at if facts.ended_at is not None else last.time
            status = _COMPLETED if facts.code == 0 else _FAILED
            told = {"session_end_info": {"status": status, "end_time_secs": ended}}
            value = _hparams("_hparams_/session_end_info", told)
            yield event(wall_time=ended, summary={"value": [value]}).SerializeToString()

    def _of(self, point: Point) -> bytes:
        values = [
            {"tag": key, "simple_value": self._narrow(value)} for key, value in point.values.items()
        ]
        told = message("Event")(wall_time=point.time, step=point.step, summary={"value": values})
        return bytes(told.SerializeToString())

    def _narrow(self, value: float) -> float:
        if abs(value) <= _GREATEST or not math.isfinite(value):
            return value
        self._too_large += 1
        return math.copysign(math.inf, value)

    def _settings(self) -> Iterator[Mapping[str, Any]]:
        """The values that TensorBoard's page of hparams is made of."""
        facts = self._facts
        if not facts.config:
            return
        settings = [{"name": key, "type": _kind(value)} for key, value in facts.config.items()]
        metrics = [{"name": {"tag": key}} for key in self._curves.keys]
        experiment = {"hparam_infos": settings, "metric_infos": metrics}
        yield _hparams("_hparams_/experiment", {"experiment": experiment})
        start: dict[str, Any] = {
            "hparams": [{"key": key, "value": _value(v)} for key, v in facts.config.items()],
            "group_name": facts.run_id,
        }
        if facts.started_at is not None:
            start["start_time_secs"] = facts.started_at
        yield _hparams("_hparams_/session_start_info", {"session_start_info": start})


def _hparams(tag: str, told: Mapping[str, Any]) -> Mapping[str, Any]:
    content = message("HParams")(**told).SerializeToString()
    return {
        "tag": tag,
        "metadata": {"plugin_data": {"plugin_name": "hparams", "content": content}},
    }


def _kind(value: Setting) -> int:
    if isinstance(value, bool):
        return _TRUTH
    return _TEXT if isinstance(value, str) else _NUMBER


def _value(value: Setting) -> Mapping[str, Setting]:
    if isinstance(value, bool):
        return {"bool_value": value}
    return {"string_value": value} if isinstance(value, str) else {"number_value": value}
