"""Round numbers for the ticks of an axis."""

from __future__ import annotations

import math

_NICE_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
_DAY = 86400


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten) from `low` to `high`."""
    span = high - low
    raw = span / (count + 1) if count >= 1 else 0.0
    if not math.isfinite(raw) or raw <= 0:
        return []
    power = 10.0 ** math.floor(math.log10(raw))
    if power <= 0.0:  # a span near the smallest float
        return []
    step = next((m * power for m in (1, 2, 5, 10) if m * power >= raw), 10 * power)
    first = math.ceil(low / step)
    ticks = dict.fromkeys((first + i) * step for i in range(count + 2))
    return [t for t in ticks if low <= t <= high]


def time_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` multiples of a round number of seconds, minutes, hours or days.

    `low` and `high` are seconds. The last ticks may lie above `high`.
    """
    raw = (high - low) / (count + 1)
    if not math.isfinite(raw) or raw <= 0:
        return []
    if raw < 1:
        return nice_ticks(low, high, count)
    step = next((s for s in _NICE_SECONDS if s >= raw), None)
    if step is None:
        days = raw / _DAY
        power = 10.0 ** math.floor(math.log10(days)) if days > 1 else 1.0
        step = int(_DAY * next(m * power for m in (1, 2, 5, 10) if m * power >= days))
    start = math.ceil(low / step)
    return [float((start + i) * step) for i in range(count + 2)]


def count_log_ticks(low: float, high: float, count: int) -> list[float]:
    """Ticks of a logarithmic axis of counts: 1, 10, 100…

    With room for it 1, 2, 5, 10…; without, only every second or third power of ten. Values below
    one count as one. The first and last ticks may lie outside [low, high].
    """
    bottom, top = math.log10(max(low, 1.0)), math.log10(max(high, 1.0))
    step = max(1, math.ceil((top - bottom) / max(1, count)))
    powers = range(math.floor(bottom / step) * step, math.ceil(top) + 1, step)
    within = (1, 2, 5) if (top - bottom) * 3 <= count else (1,)
    return [m * 10.0**p for p in powers for m in within]


def value_log_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` ticks of a logarithmic axis from 10**low to 10**high; may be fewer than two."""
    span = high - low
    if span * 3 <= count or span < 1:
        within: tuple[float, ...] = (1, 2, 5)
        step = 1
    else:
        within, step = (1,), max(1, math.ceil(span / count))
    first = math.floor(low / step) * step
    powers = range(first, math.ceil(high) + 1, step)
    found = [m * 10.0**p for p in powers for m in within if p > -323]
    return [t for t in found if low <= math.log10(t) <= high]
