"""The signs of events on the x axis of a chart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Sign(NamedTuple):
    """How a kind of event is drawn, with and without Unicode, and its word in the legend."""

    sign: str
    ascii: str
    ink: str
    word: str


@dataclass(frozen=True)
class Mark:
    """An event on the x axis. Later marks lie over earlier ones. `text` says what happened."""

    x: float
    sign: Sign
    text: str = ""


#: By kind, the least important first: it is drawn first.
SIGNS: dict[str, Sign] = {
    "checkpoint_saved": Sign("◆", "*", "primary", "saved"),
    "uploaded": Sign("↑", "^", "primary", "uploaded"),
    "started": Sign("↻", "R", "warning", "restarted"),
    "restarting": Sign("↻", "R", "warning", "restarted"),
    "new_best": Sign("★", "B", "success", "best"),
    "here": Sign("▸", ">", "primary", "now here"),
    "stalled": Sign("◐", "S", "warning", "stalled"),
    "alarm": Sign("!", "!", "warning", "alarm"),
    "spike": Sign("▲", "^", "outside", "spike"),
    "rolled_back": Sign("◀", "<", "error", "rolled back"),
    "out_of_memory": Sign("■", "M", "error", "out of memory"),
    "checkpoint_corrupt": Sign("◇", "C", "error", "corrupt"),
    "checkpoint_failed": Sign("◇", "C", "error", "not saved"),
    "nonfinite": Sign("✕", "x", "nonfinite", "not finite"),
    "diverged": Sign("✗", "X", "error", "diverged"),
    "crashed": Sign("✗", "X", "error", "crashed"),
    "gave_up": Sign("✗", "X", "error", "gave up"),
}
_RANKS = {kind: rank for rank, kind in enumerate(SIGNS)}


@dataclass(frozen=True)
class Happening:
    """An event at `step` that has a sign. `text` is safe to show."""

    step: int
    kind: str
    text: str

    @property
    def sign(self) -> Sign:
        """How it is drawn."""
        return SIGNS[self.kind]


def happening(kind: str, step: int | None, text: str) -> Happening | None:
    """The event as a happening; None if it has no sign or no step."""
    kind = kind.replace(" ", "_")
    if kind not in SIGNS or step is None:
        return None
    if kind == "started" and step == 0:
        return None  # every run has a beginning
    return Happening(step, kind, text)


def without_beaten(found: Iterable[Happening]) -> list[Happening]:
    """Of the bests only the last, by the order of the events: the others were beaten."""
    every = list(found)
    last = next((one for one in reversed(every) if one.kind == "new_best"), None)
    return [one for one in every if one.kind != "new_best" or one is last]


def by_step(found: Iterable[Happening]) -> list[Happening]:
    """In the order of steps; at one step the most important comes last."""
    return sorted(found, key=lambda h: (h.step, _RANKS[h.kind]))


def in_drawing_order(found: Iterable[Happening]) -> list[Happening]:
    """The most important last, so that it lies on top."""
    return sorted(found, key=lambda h: (_RANKS[h.kind], h.step))


def mark(x: float, one: Happening) -> Mark:
    """The happening as a mark at `x`."""
    return Mark(x, one.sign, f"{one.sign.word} at step {one.step:,}: {one.text}")
