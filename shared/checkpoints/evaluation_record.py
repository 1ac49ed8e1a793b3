"""Recording in a run's events that one of its checkpoints was evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shared.checkpoints.evaluation import Evaluation, Speed
from shared.control.idle_run import hold_if_idle
from shared.control.requests import submit
from shared.errors import UserError
from shared.json_text import Json, is_number, split_nonfinite
from shared.run.directory import RunDirectory
from shared.text import one_line

EVENT = "checkpoint_evaluated"
REQUEST = "evaluated"  # asks the owner of a run to write that event
_TEXTS = ("name", "data", "sha256")
_NUMBERS = ("loss", "perplexity", "bits_per_byte", "tokens", "bytes")
_SPEEDS = ("prefill", "decode")  # where they were measured
_NONFINITE = ("nan", "inf", "-inf")


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


def record_evaluation(
    run: RunDirectory, name: str, evaluation: Evaluation, speed: Speed | None = None
) -> str:
    """Record an evaluation in its run: in its events, or with a request while its trainer lives.

    Returns a sentence if that failed. The evaluation itself is not affected.
    """
    fields = event_fields(name, evaluation, speed)
    try:
        with hold_if_idle(run) as idle:
            if idle is None:
                submit(run.control, REQUEST, fields)
            else:
                idle.event(EVENT, **fields)
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
