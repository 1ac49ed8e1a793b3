"""Number formats for the labels of a chart."""

from __future__ import annotations

import math
from collections.abc import Sequence


def number(value: float | None, digits: int = 4) -> str:
    """A value with four digits by default; `-` if unknown, `nan` and `inf` by name."""
    if value is None:
        return "-"
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        return f"{float(mantissa):.3g}e{int(exponent)}"
    whole = len(text.partition(".")[0].lstrip("-"))
    if math.isfinite(value) and abs(value) >= 0.1 and whole < digits:
        return f"{value:.{min(digits - whole, 4)}f}"  # 2.500 and 2.431 line up
    return text


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Labels of the value axis, all with the same number of decimals."""
    if not ticks:
        return []
    largest = max(abs(t) for t in ticks)
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else largest or 1.0
    step = float(f"{step:.6g}")  # 0.00098 - 0.00096 is slightly less than 0.00002
    if largest >= 1e5 or (0 < step < 1e-4):
        digits = 3
        if step > 0 and largest / step > 100:  # close together: enough digits to differ
            digits = min(17, 1 + math.ceil(math.log10(largest / step)))
        return [f"{t:.{digits}g}" if digits > 3 else number(t, 3) if t else "0" for t in ticks]
    decimals = max(0, min(5, -math.floor(math.log10(step) + 1e-9))) if step > 0 else 2
    return [f"{t:.{decimals}f}" if abs(t) > step / 1e6 else f"{0:.{decimals}f}" for t in ticks]


def log_labels(ticks: Sequence[float]) -> list[str]:
    """Labels of a logarithmic value axis, each in its shortest exact form."""
    return [f"{t:g}" if 1e-3 <= t < 1e5 else number(t, 3) for t in ticks]


_COUNTS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))


def short_count(value: float) -> str:
    """A count in its shortest exact form: 800, 12.5k, 3M; with separators if that is long."""
    whole = round(value)
    for unit, suffix in _COUNTS:
        # Up to 9,999 the plain number is easier to read.
        if abs(whole) >= max(unit, 10_000):
            text = f"{whole / unit:.3f}".rstrip("0").rstrip(".")
            return text + suffix if len(text) <= 6 else f"{whole:,}"
    return str(whole)


_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def short_duration(seconds: float) -> str:
    """Seconds in the two largest non-zero units: 45s, 2m30s, 1h, 2d6h."""
    sign, left = ("-", -seconds) if seconds < 0 else ("", seconds)
    if left < 10:
        return f"{sign}{left:.3g}s"
    left = round(left)
    for i, (size, unit) in enumerate(_UNITS):
        if left >= size:
            large, rest = divmod(left, size)
            small = rest // _UNITS[i + 1][0] if size > 1 else 0
            return f"{sign}{large}{unit}" + (f"{small}{_UNITS[i + 1][1]}" if small else "")
    return "0s"
