"""The phases of a run, as bands behind the curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shared.run.records import PHASES, PhaseTransition
from shared.text import one_line

#: How many colours the phases with other names share.
_OTHERS = 4


@dataclass(frozen=True)
class Band:
    """From `start` on, until the next band, the run was in the phase `name`."""

    start: float
    ink: str
    name: str = ""


class Phase(NamedTuple):
    """The run was in phase `name` from step `start` on. `name` is safe to show."""

    start: int
    name: str
    ink: str


def phases(transitions: Sequence[PhaseTransition]) -> list[Phase]:
    """The phases of a run, by step, each in the colour it has everywhere."""
    inks = phase_inks(t.to for t in transitions)
    ordered = sorted(transitions, key=lambda t: t.step)
    return [Phase(t.step, one_line(t.to, 40), inks[t.to]) for t in ordered]


def phase_inks(names: Iterable[str]) -> dict[str, str]:
    """The name of a colour for each phase: the known ones have their own, others take turns."""
    inks: dict[str, str] = {}
    others = 0
    for name in names:
        if name in inks:
            continue
        if name in PHASES:
            inks[name] = f"phase-{name}"
        else:
            inks[name] = f"phase-{others % _OTHERS + 1}"
            others += 1
    return inks


def phase_bands(transitions: Sequence[PhaseTransition]) -> list[Band]:
    """The phases as bands over steps."""
    return [Band(float(p.start), p.ink, p.name) for p in phases(transitions)]
