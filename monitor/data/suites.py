"""How checkpoints did on suites of tasks, a line for each (`eval.json`)."""

from __future__ import annotations

from collections.abc import Iterable

from shared.checkpoints.catalogue import CheckpointInfo
from shared.checkpoints.suite_figures import format_figure, kind_of
from shared.checkpoints.suites import SuiteResult, newest_suites, read_suites
from shared.text import one_line

_CHECKPOINTS = 20  # the newest, and the best
_SUITES = 4  # of a checkpoint
_FIGURES = ("parse_rate", "compile_rate", "test_rate", "pass@1", "pass@16")


def suites_of(checkpoints: Iterable[CheckpointInfo]) -> dict[str, tuple[str, ...]]:
    """The lines of each checkpoint that was evaluated so, by its name."""
    found: dict[str, tuple[str, ...]] = {}
    newest = list(reversed(list(checkpoints)))
    for info in [*newest[:_CHECKPOINTS], *(c for c in newest[_CHECKPOINTS:] if c.is_best)]:
        results = newest_suites(read_suites(info.path))[:_SUITES]
        if lines := tuple(line for result in results if (line := _line(result))):
            found[info.name] = lines
    return found


def _line(result: SuiteResult) -> str:
    told = [
        f"{kind_of(name).label} {format_figure(name, result.figures[name].value)}"
        for name in _FIGURES
        if name in result.figures
    ]
    return one_line(f"{result.suite}: {', '.join(told)}", 200) if told else ""
