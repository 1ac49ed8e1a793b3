"""Events of a run as readable text, whatever their records contain."""

from __future__ import annotations

import math
from typing import Any

from shared.json_text import is_number
from shared.text import format_bytes, format_count, one_line

_HIDDEN = frozenset({"time", "event", "step", "attempt", "nonfinite"})
_LARGEST = 1e300


def event_text(record: dict[str, Any]) -> str:
    """What happened, without kind and time; safe to show."""
    return one_line(_text(one_line(record.get("event", ""), 40), record), 400)


def _text(kind: str, record: dict[str, Any]) -> str:
    get = record.get
    loss, size = _finite(get("val_loss")), _finite(get("bytes"))
    reward = _finite(get("val_reward"))
    measured = f"val loss {loss:.4g}" if loss is not None else ""
    measured = f"val reward {reward:.4g}" if reward is not None else measured
    match kind:
        case "started":
            before = get("previous_status")
            return f"attempt {get('attempt', 1)}" + (f", was {before}" if before else "")
        case "status":
            reason = f": {get('reason')}" if get("reason") else ""
            return f"{get('previous', '')} → {get('status', '')}{reason}"
        case "phase":
            return f"{get('previous') or 'start'} → {get('phase', '')}"
        case "stage":
            why = f": {get('message')}" if get("message") else ""
            return f"{get('stage', '')} {get('status', '')}{why}"
        case "checkpoint_saved":
            parts = [str(get("name", "")), format_bytes(size) if size is not None else "", measured]
            return ", ".join(part for part in parts if part)
        case "evaluated":
            return measured
        case "answer":
            return f"{get('action', '')}: {get('message', '')}"
        case "nonfinite":
            return f"loss {_value(record, 'loss')}, gradient norm {_value(record, 'gradient_norm')}"
        case "spike":
            skipped = ", the update was skipped" if get("skipped") else ""
            zscore = _finite(get("zscore"))
            deviation = "" if zscore is None else f", {zscore:.1f} deviations above the mean"
            return f"loss {_value(record, 'loss')}{deviation}{skipped}"
        case "new_best":
            return f"{get('metric', 'loss')} {_value(record, 'value')}"
        case "out_of_memory" if not get("message"):
            return f"micro-batch {get('micro_batch')}, tried again with {get('retry_with')}"
        case "rolled_back" if not get("message"):
            return f"from step {get('from_step')} to {get('to_step')}, {get('checkpoint')}"
        case "checkpoint_removed":
            taken = format_bytes(size) if size is not None else None
            told = (get("name"), get("reason"), taken)
            return ", ".join(str(part) for part in told if part)
        case "uploaded":
            return " to ".join(str(get(key)) for key in ("name", "url") if get(key))
        case "checkpoint_evaluated":
            bits, tokens = _finite(get("bits_per_byte")), _finite(get("tokens"))
            text = f"{get('name', '')} on {get('data', '')}: loss {_value(record, 'loss')}"
            text += "" if bits is None else f", {bits:.4g} bits per byte"
            return text + ("" if tokens is None else f", {format_count(tokens)} tokens")
        case "suite_evaluated":
            return f"{get('name', '')} on {get('suite', '')}: {_rates(get('figures'))}"
        case "checkpoint_compressed":
            before, after = _finite(get("bytes_before")), _finite(get("bytes_after"))
            sizes = [format_bytes(x) for x in (before, after) if x is not None]
            return f"{get('name', '')}: {' → '.join(sizes)}"
        case _:
            for key in ("message", "text", "name", "reason"):
                if isinstance(get(key), str):
                    return str(get(key))
            shown = [(k, v) for k, v in list(record.items())[:12] if k not in _HIDDEN]
            return ", ".join(f"{k} {v}" for k, v in shown)


def _rates(figures: object) -> str:
    """The main figures of a suite; of another program's the first."""
    known = figures if isinstance(figures, dict) else {}
    told = [
        f"{label} {100 * rate:.1f} %"
        for key, label in (("compile_rate", "compiles"), ("test_rate", "passes tests"))
        if (rate := _finite(known.get(key))) is not None
    ]
    others = [
        f"{key} {number:.4g}"
        for key, value in list(known.items())[:3]
        if (number := _finite(value)) is not None
    ]
    return ", ".join(told or others) or "no figures"


def _value(record: dict[str, Any], key: str) -> str:
    """A number of an event; NaN and infinities by name."""
    value, named = _finite(record.get(key)), record.get("nonfinite")
    if value is not None:
        return f"{value:.4g}"
    return str(named.get(key, "?")) if isinstance(named, dict) else "?"


def _finite(value: object) -> float | None:
    """`value` as a printable float; None for anything else."""
    if not is_number(value) or not -_LARGEST < value < _LARGEST:  # type: ignore[operator]
        return None
    return float(value) if math.isfinite(value) else None  # type: ignore[arg-type]
