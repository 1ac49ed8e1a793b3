"""The part of a checkpoint's `eval.json` that tells how it did on suites of tasks.

A suite is a set of tasks whose answers are judged, by a compiler and tests or by another program
such as lm-evaluation-harness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shared.checkpoints.evaluation import EVALUATION, edit_evaluation
from shared.files import read_json
from shared.json_text import Json, is_number, split_nonfinite
from shared.text import one_line

SUITES = "suites"
MAX_FIGURES = 200  # of a result, and results of a file, that are read
_SAME = ("suite", "judge", "sha256", "settings")  # measured again: the newer counts
Setting = str | int | float | bool


@dataclass(frozen=True)
class Figure:
    """A number with its 95 % confidence interval, from `count` answers or tasks."""

    value: float
    low: float | None = None
    high: float | None = None
    count: int | None = None


@dataclass(frozen=True)
class SuiteResult:
    """How a model did on one suite.

    `judge` is what judged the answers: a language, or a program with its version. `sha256` is of
    the tasks. `settings` are what the figures depend on besides, such as the temperature; two
    results with the same of these are one measurement, made twice. `answers` are those judged.
    `notes` are sentences to read with the figures. `time` is Unix seconds.
    """

    suite: str
    judge: str
    sha256: str
    tasks: int
    answers: int
    settings: Mapping[str, Setting]
    figures: Mapping[str, Figure]
    time: float
    seconds: float
    command: str = ""
    git_commit: str | None = None
    version: str = ""
    machine: str = ""
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> Json:
        """As it lies in `eval.json`."""
        value = {k: v for k, v in asdict(self).items() if k != "figures"}
        figures = {name: split_nonfinite(asdict(f)) for name, f in self.figures.items()}
        return {**value, "notes": list(self.notes), "figures": figures}


def add_suites(folder: Path, results: Sequence[SuiteResult]) -> None:
    """Put results into the checkpoint's `eval.json`, in the place of those they repeat.

    What a newer program has written there stays. Raises OSError.
    """

    def add(known: Json) -> Json:
        entries = [entry for entry in _list(known, SUITES) if isinstance(entry, dict)]
        for result in results:
            new = result.to_json()
            entries = [e for e in entries if any(e.get(k) != new[k] for k in _SAME)]
            entries.append(new)
        return {**known, SUITES: entries}

    edit_evaluation(folder, add)


def read_suites(folder: Path) -> list[SuiteResult]:
    """The results on suites in a checkpoint's `eval.json` that can be understood, oldest first."""
    entries = _list(read_json(folder / EVALUATION) or {}, SUITES)[-MAX_FIGURES:]
    found = (_result(entry) for entry in entries)
    return [result for result in found if result is not None]


def newest_suites(results: Sequence[SuiteResult]) -> list[SuiteResult]:
    """The newest result of each suite and judge, newest first."""
    newest: dict[tuple[str, str], SuiteResult] = {}
    for result in sorted(results, key=lambda result: result.time):
        newest[result.suite, result.judge] = result
    return sorted(newest.values(), key=lambda result: -result.time)


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _result(entry: object) -> SuiteResult | None:
    """The result in `entry`, which anybody may have written; None without a name and figures."""
    if not isinstance(entry, dict):
        return None
    figures, settings = entry.get("figures"), entry.get("settings")
    if not isinstance(figures, dict) or not isinstance(entry.get("suite"), str):
        return None
    known = {
        one_line(name, 80): figure
        for name, value in list(figures.items())[:MAX_FIGURES]
        if (figure := _figure(value)) is not None
    }
    if not known:
        return None

    def text(key: str) -> str:
        return one_line(entry.get(key) or "", 500)

    return SuiteResult(
        suite=one_line(entry["suite"], 120),
        judge=one_line(entry.get("judge") or "", 120),
        sha256=one_line(entry.get("sha256") or "", 64),
        tasks=_count(entry.get("tasks")),
        answers=_count(entry.get("answers")),
        settings=_settings(settings),
        figures=known,
        time=_number(entry.get("time")) or 0.0,
        seconds=_number(entry.get("seconds")) or 0.0,
        command=text("command"),
        git_commit=text("git_commit") or None,
        version=text("version"),
        machine=text("machine"),
        notes=tuple(one_line(note, 300) for note in _list(entry, "notes")[:20]),
    )


def _settings(value: object) -> dict[str, Setting]:
    if not isinstance(value, dict):
        return {}
    kept: dict[str, Setting] = {}
    for name, setting in list(value.items())[:MAX_FIGURES]:
        if isinstance(setting, str):
            kept[one_line(name, 80)] = one_line(setting, 200)
        elif isinstance(setting, bool) or _number(setting) is not None:
            kept[one_line(name, 80)] = setting
    return kept


def _figure(value: object) -> Figure | None:
    if not isinstance(value, dict):
        return None
    number, count = _number(value.get("value")), value.get("count")
    if number is None:
        return None
    low, high = _number(value.get("low")), _number(value.get("high"))
    return Figure(number, low, high, count if type(count) is int and count >= 0 else None)


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0


def _number(value: object) -> float | None:
    if not is_number(value):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
