"""A run as a folder of an offline run of Weights & Biases, for `wandb sync`."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.export.curves import Curves, Facts, Point, Setting
from shared.export.folders import Target
from shared.export.tensorboard import Written
from shared.foreign.wandb_blocks import Blocks
from shared.foreign.wandb_proto import message
from shared.run.numbers import shortest

_FILE = re.compile(r"run-[\w.-]+\.wandb")
_LONGEST = 64  # characters of an id
_PROJECT = "train-monitor"
_OLDEST_READER = "0.70.0"  # as wandb itself writes


def wandb_target(facts: Facts, logs: Path, *, force: bool) -> Target:
    """The folder of a run in the folder `logs`."""
    moment = facts.started_at if facts.started_at is not None else 0.0
    stamp = time.strftime("%Y%m%d_%H%M%S", time.gmtime(moment))
    name = f"offline-run-{stamp}-{_id(facts)}"
    return Target(logs, name, lambda name: bool(_FILE.fullmatch(name)), force)


def _id(facts: Facts) -> str:
    """The run's id as W&B allows one; the same for the same run, so that it is synced once."""
    safe = re.sub(r"[^\w.-]+", "-", facts.run_id, flags=re.ASCII)
    if safe == facts.run_id and len(safe) <= _LONGEST:
        return safe
    digest = hashlib.sha256(facts.run_id.encode()).hexdigest()[:8]
    return f"{safe[: _LONGEST - 9]}-{digest}"


def export_wandb(facts: Facts, curves: Curves, target: Target) -> Written:
    """Write every step as a record of the history, the configuration, tags, note and end.

    Raises UserError or RunError.
    """
    with target.filled() as place:
        path, blocks = place / f"run-{_id(facts)}.wandb", Blocks()
        with path.open("wb") as file:
            size = sum(file.write(blocks.add(data)) for data in _records(facts, curves))
            file.flush()
            os.fsync(file.fileno())
    return Written(target.path, size)


def _records(facts: Facts, curves: Curves) -> Iterator[bytes]:
    record = message("Record")
    points = curves.points(facts.started_at)
    first = next(points)
    began = facts.started_at if facts.started_at is not None else first.time
    version = {"producer": "train-monitor", "min_consumer": _OLDEST_READER}
    said: list[Mapping[str, Any]] = [
        {"header": {"version_info": version}},
        {"run": _run(facts, began)},
        {"history": _history(first, began)},
    ]
    number, last, newest = 0, first, dict(first.values)
    for number, told in enumerate(said, start=1):
        yield record(num=number, **told).SerializeToString()
    for last in points:
        number += 1
        newest |= last.values
        yield record(num=number, history=_history(last, began)).SerializeToString()
    summary = {"update": _items(newest | _clock(last, began))}
    yield record(num=number + 1, summary=summary).SerializeToString()
    if facts.code is not None:
        ended = facts.ended_at if facts.ended_at is not None else last.time
        runtime = int(min(max(0.0, ended - began), 1 << 30))
        told = {"exit_code": facts.code, "runtime": runtime}
        yield record(num=number + 2, exit=told).SerializeToString()


def _run(facts: Facts, began: float) -> Mapping[str, Any]:
    fraction, seconds = math.modf(began)
    return {
        "run_id": _id(facts),
        "project": _PROJECT,
        "display_name": facts.name,
        "notes": facts.note,
        "tags": facts.tags,
        "host": facts.host,
        "start_time": {"seconds": int(seconds), "nanos": int(fraction * 1e9)},
        "config": {
            "update": [
                {"key": key, "value_json": json.dumps(value)}
                for key, value in _nested(facts.config).items()
            ]
        },
    }


def _history(point: Point, began: float) -> Mapping[str, Any]:
    items = _items({**point.values, **_clock(point, began)})
    return {"item": items, "step": {"num": point.step}}


def _clock(point: Point, began: float) -> dict[str, float]:
    return {
        "_step": point.step,
        "_timestamp": point.time,
        "_runtime": max(0.0, point.time - began),
    }


def _items(values: Mapping[str, float]) -> list[Mapping[str, Any]]:
    return [{"nested_key": [key], "value_json": _json(value)} for key, value in values.items()]


def _json(value: float) -> str:
    """A number as wandb writes it, also one that is none."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return shortest(value)


def _nested(config: Mapping[str, Setting]) -> Mapping[str, Any]:
    """Settings by dotted keys as the mapping that they are of."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        *folders, name = key.split(".")
        place: Any = found
        for folder in folders:
            place = place.setdefault(folder, {}) if isinstance(place, dict) else None
        if isinstance(place, dict) and name not in place:
            place[name] = value
        else:
            found[key] = value  # one of them has a value and others below it
    return found
