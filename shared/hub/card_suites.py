"""The part of the model card about suites of tasks (`eval.json`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.checkpoints.suite_figures import (
    KINDS,
    format_figure,
    format_interval,
    in_order,
    kind_of,
)
from shared.checkpoints.suites import Figure, SuiteResult, newest_suites
from shared.hub.markdown import code, table
from shared.hub.source import Facts
from shared.text import one_line, plural

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_SHOWN = 10  # suites in a card


def suite_results(facts: Facts) -> list[EvalResult]:
    """What the Hub reads of them (`model-index`)."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-generation",
            task_name="Text Generation",
            dataset_type="tasks",
            dataset_name=one_line(result.suite or "tasks", 120),
            dataset_config=_asked(result),
            dataset_revision=one_line(result.sha256, 16) or None,
            metric_type=one_line(name, 80),
            metric_name=one_line(kind_of(name).label, 80),
            metric_value=round(figure.value, 6),
        )
        for result in _shown(facts)
        for name, figure in in_order(result.figures)
    ]


def suite_sections(facts: Facts) -> list[str]:
    """What a person reads of them: the newest result of each suite."""
    return [_section(result) for result in _shown(facts)]


def _shown(facts: Facts) -> list[SuiteResult]:
    return newest_suites(facts.suites)[:_SHOWN]


def _section(result: SuiteResult) -> str:
    rows = [
        (
            kind_of(name).label if name in KINDS else code(name),
            " ".join(filter(None, (format_figure(name, figure.value), _in_brackets(name, figure)))),
        )
        for name, figure in in_order(result.figures)
    ]
    counts = f"{plural(result.tasks, 'task')}, {plural(result.answers, 'answer')}"
    notes = "".join(f" {code(note)}" for note in result.notes)
    return (
        f"On the tasks of {code(result.suite)} ({counts}, judged by {code(result.judge)}; "
        f"{code(_asked(result))}), with 95 % intervals:\n\n{table(rows)}{notes}"
    )


def _in_brackets(name: str, figure: Figure) -> str:
    interval = format_interval(name, figure)
    return f"({interval})" if interval else ""


def _asked(result: SuiteResult) -> str:
    told = ", ".join(f"{name} {value}" for name, value in result.settings.items())
    return one_line(told or "as usual", 300)
