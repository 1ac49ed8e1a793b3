"""The part of the model card that tells what was measured, in training and since (`eval.json`)."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from shared.checkpoints.evaluation import Evaluation as DataEvaluation
from shared.checkpoints.evaluation import Speed
from shared.hub.card_suites import suite_results, suite_sections
from shared.hub.markdown import code, table
from shared.hub.source import Evaluation, Facts
from shared.text import one_line, plural

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN = 10  # data sets of eval.json in a card


def evaluation_results(facts: Facts, data_name: str) -> list[EvalResult]:
    """What the Hub reads of it (`model-index`); `data_name` is what the run was validated on."""
    from huggingface_hub import EvalResult

    during_training = [
        EvalResult(
            task_type="text-generation",
            task_name="Text Generation",
            dataset_type="validation-split",
            dataset_name=data_name or "validation data",
            dataset_split="validation",
            metric_type=kind,
            metric_name=name,
            metric_value=value,
        )
        for kind, name, value in _metrics(facts.evaluation)
    ]
    return (
        during_training
        + [
            EvalResult(
                task_type="text-generation",
                task_name="Text Generation",
                dataset_type="validation-split" if measured.split == "validation" else "text",
                dataset_name=_shown_name(measured),
                dataset_config=_windows(measured),
                dataset_split="validation" if measured.split == "validation" else None,
                dataset_revision=_revision(measured),
                metric_type=kind,
                metric_name=name,
                metric_value=value,
            )
            for measured in _shown_evaluations(facts)
            for kind, name, value in _metrics_of(measured)
        ]
        + suite_results(facts)
    )


def evaluation_section(facts: Facts) -> str:
    """What a person reads of it."""
    measured = facts.evaluation
    suites = suite_sections(facts)
    later = [_later_evaluation(e) for e in _shown_evaluations(facts)] + suites
    if measured is None and not later:
        return "No data was held out for validation, so how well it generalizes is unknown."
    parts: list[str] = []
    if measured is not None:
        batches = facts.setting("eval.batches")
        on = f"{batches} fixed batches" if isinstance(batches, int) else "fixed batches"
        parts.append(table([(name, f"{value:.4f}") for _, name, value in _metrics(measured)]))
        parts.append(
            f"Measured at step {measured.step:,} on {on} of validation data from the same source "
            "as the training data."
        )
    return "\n\n".join([*parts, *later, *_speeds(facts), "No other benchmark was run."])


def _speeds(facts: Facts) -> list[str]:
    """The newest one: on other machines it is another."""
    newest = sorted(facts.speeds, key=lambda speed: -speed.time)[:1]
    return [_told_speed(speed) for speed in newest]


def _told_speed(speed: Speed) -> str:
    return (
        f"Speed of one sequence on {code(speed.machine or 'an unknown machine')} in "
        f"{code(speed.dtype or 'fp32')}: a prompt of {speed.prompt_tokens:,} tokens is read at "
        f"{speed.prefill:,.0f} tokens per second, {speed.new_tokens:,} more are written at "
        f"{speed.decode:,.1f}."
    )


def _later_evaluation(measured: DataEvaluation) -> str:
    """One data set of `eval.json`: its figures, and how they came about."""
    total = measured.total
    held_back = ", held back from training" if measured.split == "validation" else ""
    begin = (
        f", the first {measured.max_tokens:,} tokens of each file" if measured.max_tokens else ""
    )
    size = f"{total.tokens:,} tokens" + (f", {total.bytes:,} bytes of text" if total.bytes else "")
    rows = [(name, f"{value:.4f}") for _, name, value in _metrics_of(measured)]
    files = f" in {plural(len(measured.files), 'file')}" if measured.files else ""
    return (
        f"On {code(_shown_name(measured))}{held_back} ({size}{files}{begin}):\n\n{table(rows)}\n\n"
        f"Every token scored once, in windows of {measured.seq_len:,} tokens moved by "
        f"{measured.stride:,}; SHA-256 of the data {code(total.sha256)}."
    )


def _shown_evaluations(facts: Facts) -> list[DataEvaluation]:
    """The newest of them: a card is no log."""
    return sorted(facts.evaluations, key=lambda e: -e.time)[:_SHOWN]


def _shown_name(measured: DataEvaluation) -> str:
    return one_line(measured.total.data or "text", 80)


def _revision(measured: DataEvaluation) -> str | None:
    """Which data it was, by its checksum: a name is soon given twice."""
    digest = measured.total.sha256
    return digest[:16] if _SHA256.fullmatch(digest) else None


def _windows(measured: DataEvaluation) -> str:
    part = f", first {measured.max_tokens} tokens" if measured.max_tokens else ""
    return f"seq_len {measured.seq_len}, stride {measured.stride}{part}"


def _metrics_of(measured: DataEvaluation) -> list[tuple[str, str, float]]:
    total = measured.total
    found = [
        ("loss", "Loss (nats per token)", total.loss),
        ("perplexity", "Perplexity (per token)", total.perplexity),
        ("bits_per_byte", "Bits per byte", total.bits_per_byte),
    ]
    return [(k, n, round(v, 6)) for k, n, v in found if v is not None and math.isfinite(v)]


def _metrics(measured: Evaluation | None) -> list[tuple[str, str, float]]:
    if measured is None:
        return []
    found = [
        ("loss", "Validation loss (nats per token)", measured.loss),
        ("perplexity", "Validation perplexity (per token)", measured.perplexity),
        ("bits_per_byte", "Validation bits per byte", measured.bits_per_byte),
    ]
    return [(k, n, round(v, 6)) for k, n, v in found if v is not None and math.isfinite(v)]
