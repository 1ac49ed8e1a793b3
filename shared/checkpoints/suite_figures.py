"""What the figures of a suite are called, how they are written, and what the guide aims at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.checkpoints.suites import Figure


@dataclass(frozen=True)
class FigureKind:
    """A figure's name for people. `is_rate` figures are shown in percent.

    `target` is what the production training guide aims at, empty where it names nothing.
    """

    label: str
    is_rate: bool = True
    target: str = ""


#: In the order they are shown.
KINDS: Mapping[str, FigureKind] = {
    "parse_rate": FigureKind("parses"),
    "compile_rate": FigureKind("compiles", target="60-80 %, RL 95-100 %"),
    "test_rate": FigureKind("passes its tests"),
    "pass@1": FigureKind("pass@1"),
    "pass@5": FigureKind("pass@5"),
    "pass@10": FigureKind("pass@10"),
    "pass@16": FigureKind("pass@16"),
    "compile@5": FigureKind("one of 5 compiles"),
    "compile@10": FigureKind("one of 10 compiles"),
    "compile@16": FigureKind("one of 16 compiles"),
    "reward": FigureKind("reward", is_rate=False),
    "iterators": FigureKind("uses iterators"),
    "closures": FigureKind("uses closures"),
    "match": FigureKind("uses match"),
    "idiomatic": FigureKind("iterator or closure", target="70 %"),
    "error_handling": FigureKind("handles errors", target="80 %"),
    "documented": FigureKind("functions documented", target="50 %"),
    "complexity": FigureKind("complexity (McCabe)", is_rate=False, target="below 5"),
    "nesting": FigureKind("deepest nesting", is_rate=False),
    "ended": FigureKind("answers that end"),
    "length": FigureKind("tokens per answer", is_rate=False),
    "perplexity": FigureKind("reference perplexity", is_rate=False),
    "bits_per_byte": FigureKind("reference bits/byte", is_rate=False),
}
TARGETS = "guide's aim"  # the heading of the targets


def kind_of(name: str) -> FigureKind:
    """The kind of a figure; one of another program is shown under its own name, as it is."""
    return KINDS.get(name) or FigureKind(name, is_rate=False)


def format_figure(name: str, value: float) -> str:
    """A figure for a person: `61.7 %`, `4.21`."""
    if kind_of(name).is_rate:
        return f"{100 * value:.1f} %"
    return f"{value:.4g}" if abs(value) >= 1000 else f"{value:.3f}"


def format_interval(name: str, figure: Figure) -> str:
    """Its 95 % interval: `52.1 to 70.4`; empty where it has none."""
    if figure.low is None or figure.high is None:
        return ""
    if kind_of(name).is_rate:
        return f"{100 * figure.low:.1f} to {100 * figure.high:.1f}"
    return f"{format_figure(name, figure.low)} to {format_figure(name, figure.high)}"


def in_order(figures: Mapping[str, Figure]) -> list[tuple[str, Figure]]:
    """The figures in the order they are shown: known ones first, others as they come."""
    order = {name: place for place, name in enumerate(KINDS)}
    return sorted(figures.items(), key=lambda item: order.get(item[0], len(order)))
