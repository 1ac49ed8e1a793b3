"""What other tools get of a run: the newest curve of every metric, by steps, and its facts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from shared.errors import UserError
from shared.files import open_file
from shared.library.labels import read_labels
from shared.run.config import flat_config
from shared.run.directory import RunDirectory
from shared.run.metrics_log import TIME, MetricsReader, MetricsTable
from shared.run.metrics_rows import Ints, Series
from shared.run.records import ENDED_STATUSES, RunState
from shared.text import one_line

Setting = str | float | bool
_STEPS = 4_096  # of which records are made at a time
_READ = 4 << 20
_MOST_CONFIG = 1 << 20  # bytes of config.yaml
_EXACT = 1 << 53  # up to which a float holds every integer
_LATEST = 1e11  # Unix seconds; what is beyond is no time


@dataclass(frozen=True)
class Point:
    """The metrics of a step. `time` is in Unix seconds, also where the step has none of its own:
    then it is the last one before.
    """

    step: int
    time: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Facts:
    """What a run tells beside its metrics; safe to show. `code` is None while it has not ended."""

    run_id: str
    name: str
    config: Mapping[str, Setting]
    tags: tuple[str, ...]
    note: str
    host: str
    started_at: float | None
    ended_at: float | None
    status: str
    code: int | None


class Curves:
    """The newest curve of every metric: an attempt that was given up is not in it."""

    def __init__(self, table: MetricsTable) -> None:
        self._series: dict[str, Series] = {}
        front = table.facts.given_up_after
        for key in table.keys():  # noqa: SIM118  not a dict
            series = _up_to(front, table.series(key))
            name = one_line(key, 200)
            if len(series) and name and name not in self._series:
                self._series[name] = series
        self._clock = _up_to(front, table.series(TIME))

    @property
    def keys(self) -> list[str]:
        """The metrics."""
        return list(self._series)

    @property
    def values(self) -> int:
        """How many values there are."""
        return sum(map(len, self._series.values()))

    def points(self, first_time: float | None) -> Iterator[Point]:
        """The points in order of steps. `first_time` stands for the times before the first one."""
        clock = self._clock
        known = (clock.values >= 0) & (clock.values < _LATEST)
        at, times = clock.steps[known], clock.values[known]
        before = first_time if first_time is not None else float(times[0]) if len(times) else 0.0
        steps = self._steps()
        for start in range(0, len(steps), _STEPS):
            some = steps[start : start + _STEPS]
            values: dict[int, dict[str, float]] = {step: {} for step in some.tolist()}
            for key, series in self._series.items():
                begin, end = np.searchsorted(series.steps, (some[0], some[-1] + 1))
                own = series.steps[begin:end].tolist()
                for step, value in zip(own, series.values[begin:end].tolist(), strict=True):
                    values[step][key] = value
            places = np.searchsorted(at, some, "right").tolist()
            for (step, found), place in zip(values.items(), places, strict=True):
                yield Point(step, float(times[place - 1]) if place else before, found)

    def _steps(self) -> Ints:
        """The steps that have a value."""
        found = np.empty(0, np.int64)
        for series in self._series.values():
            if not np.array_equal(found, series.steps):
                found = np.union1d(found, series.steps)
        return found


def _up_to(front: int | None, series: Series) -> Series:
    if front is None:
        return series
    end = int(np.searchsorted(series.steps, front, "right"))
    return Series(series.key, series.steps[:end], series.values[:end])


def read_curves(run: RunDirectory, advance: Callable[[int], None] = lambda _: None) -> Curves:
    """The curves of `run`; `advance` is called with the bytes read. Raises UserError if there are
    none.
    """
    reader, before, more = MetricsReader(run.metrics_path), 0, True
    while more:
        more = reader.poll(_READ)
        advance(max(0, reader.offset - before))
        before = reader.offset
    curves = Curves(reader.table)
    if not curves.keys:
        raise UserError(f"Run {one_line(run.run_id)} has no metrics yet.")
    return curves


def read_facts(run: RunDirectory) -> Facts:
    """What `run` tells beside its metrics."""
    state, labels = run.read_state() or RunState(), read_labels(run)
    return Facts(
        run_id=one_line(run.run_id),
        name=labels.name or one_line(state.run_name or run.run_id, 120),
        config=_config(run),
        tags=labels.tags,
        note=labels.note,
        host=one_line(state.host, 80),
        started_at=_moment(state.started_at),
        ended_at=_moment(state.ended_at),
        status=state.status,
        code=_code(state),
    )


def _code(state: RunState) -> int | None:
    if state.status not in ENDED_STATUSES:
        return None
    if state.exit is not None and abs(state.exit.code) < 1 << 31:
        return state.exit.code
    return int(state.status == "failed")


def _moment(seconds: float | None) -> float | None:
    if seconds is None or not math.isfinite(seconds) or not 0 < seconds < _LATEST:
        return None
    return float(seconds)


def _config(run: RunDirectory) -> Mapping[str, Setting]:
    try:
        with open_file(run.config_path) as file:
            text = file.read(_MOST_CONFIG).decode("utf-8", "replace")
    except OSError:
        return {}
    return {key: _setting(value) for key, value in flat_config(text).items()}


def _setting(text: str) -> Setting:
    """A number or a truth value as such; YAML's are shown as Python writes them."""
    if text in ("True", "False"):
        return text == "True"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, int) and abs(value) > _EXACT:
        return text  # an identifier rather than a number
    return value if isinstance(value, (int, float)) else text
