"""Recording in a run's events that one of its checkpoints was evaluated, on data or a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shared.checkpoints.evaluation import Evaluation, Speed
from shared.checkpoints.suites import SuiteResult
from shared.control.idle_run import hold_if_idle
from shared.control.requests import submit
from shared.errors import UserError
from shared.json_text import Json, is_number, split_nonfinite
from shared.run.directory import RunDirectory
from shared.text import one_line

EVENT = "checkpoint_evaluated"
SUITE_EVENT = "suite_evaluated"
REQUEST = "evaluated"  # asks the owner of a run to write one of these events
_TEXTS = ("name", "data", "sha256")
_NUMBERS = ("loss", "perplexity", "bits_per_byte", "tokens", "bytes")
_SPEEDS = ("prefill", "decode")  # where they were measured
_NONFINITE = ("nan", "inf", "-inf")
_SUITE_TEXTS = ("name", "suite", "judge", "sha256")
_SUITE_COUNTS = ("tasks", "answers")


def event_fields(name: str, evaluation: Evaluation, speed: Speed | None = None) -> Json:
    """The fields of the event for the checkpoint `name`."""
    total = evaluation.total
    return split_nonfinite(
        {
            "name": name,
            "data": total.data,
            "sha256": total.sha256,
            "loss": total.loss,
            "perplexity": total.perplexity,
            "bits_per_byte": total.bits_per_byte,
            "tokens": total.tokens,
            "bytes": total.bytes,
            **({key: getattr(speed, key) for key in _SPEEDS} if speed else {}),
        }
    )


def suite_fields(name: str, result: SuiteResult) -> Json:
    """The fields of the event for the checkpoint `name` and a suite."""
    texts = {key: getattr(result, key) for key in _SUITE_TEXTS if key != "name"}
    counts = {key: getattr(result, key) for key in _SUITE_COUNTS}
    figures = {key: figure.value for key, figure in result.figures.items()}
    return {"name": name, **texts, **counts, "figures": figures}


def record_evaluation(
    run: RunDirectory, name: str, evaluation: Evaluation, speed: Speed | None = None
) -> str:
    """Record an evaluation in its run: in its events, or with a request while its trainer lives.

    Returns a sentence if that failed. The evaluation itself is not affected.
    """
    return _record(run, EVENT, event_fields(name, evaluation, speed))


def record_suite(run: RunDirectory, name: str, result: SuiteResult) -> str:
    """The same for a result on a suite."""
    return _record(run, SUITE_EVENT, suite_fields(name, result))


def _record(run: RunDirectory, event: str, fields: Json) -> str:
    try:
        with hold_if_idle(run) as idle:
            if idle is None:
                submit(run.control, REQUEST, fields)
            else:
                idle.event(event, **fields)
    except OSError as error:
        return (
            f"The evaluation could not be written into the events of {one_line(run.path)}: "
            f"{error.strerror}."
        )
    return ""


def serve_evaluated(arguments: Mapping[str, Any], tell: Callable[..., None]) -> str:
    """Do what an `evaluated` request asks, for the run's owner; returns the answer.

    `tell` is `RunWriter.event` or `IdleRun.event`. Raises UserError if `arguments` is not the
    record of an evaluation.
    """
    if "suite" in arguments:
        return _serve_suite(arguments, tell)
    texts = {key: arguments.get(key) for key in _TEXTS}
    numbers = {key: arguments.get(key) for key in _NUMBERS}
    numbers |= {key: arguments[key] for key in _SPEEDS if key in arguments}
    named = arguments.get("nonfinite", {})
    if (
        set(arguments) - {*_TEXTS, *_NUMBERS, *_SPEEDS, "nonfinite"}
        or not all(isinstance(text, str) for text in texts.values())
        or not all(number is None or is_number(number) for number in numbers.values())
        or not isinstance(named, dict)
        or not all(key in _NUMBERS and name in _NONFINITE for key, name in named.items())
    ):
        raise UserError(f"{one_line(dict(arguments))} is not the record of an evaluation.")
    record = {key: one_line(text, 300) for key, text in texts.items()} | numbers
    tell(EVENT, **record, **({"nonfinite": named} if named else {}))
    return f"the evaluation of {one_line(texts['name'], 80)} is in the events"


def _serve_suite(arguments: Mapping[str, Any], tell: Callable[..., None]) -> str:
    figures = arguments.get("figures")
    if (
        set(arguments) != {*_SUITE_TEXTS, *_SUITE_COUNTS, "figures"}
        or not all(isinstance(arguments[key], str) for key in _SUITE_TEXTS)
        or not all(type(arguments[key]) is int for key in _SUITE_COUNTS)
        or not isinstance(figures, dict)
        or not all(value is None or is_number(value) for value in figures.values())
    ):
        raise UserError(f"{one_line(dict(arguments))} is not the record of an evaluation.")
    texts = {key: one_line(arguments[key], 300) for key in _SUITE_TEXTS}
    counts = {key: arguments[key] for key in _SUITE_COUNTS}
    tell(SUITE_EVENT, **texts, **counts, figures={one_line(k, 80): v for k, v in figures.items()})
    return f"the evaluation of {one_line(texts['name'], 80)} is in the events"
