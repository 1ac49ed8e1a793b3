"""What happened to a run, as signs on the x axis; its phases, as bands behind the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from monitor.data.views import EventView, RunDetail, RunView
from shared.run.records import PhaseTransition
from shared.text import format_bytes, one_line


class Sign(NamedTuple):
    """How a kind of event is drawn, with and without Unicode, and its word in the legend."""

    sign: str
    ascii: str
    ink: str
    word: str


#: By kind; of two on one place the later one in this order is seen.
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

_NAMED_PHASES = ("warmup", "full", "predict", "correct")
_OTHER_PHASES = 4


@dataclass(frozen=True)
class Happening:
    """Something that happened at `step`. `text` is safe to show."""

    step: int
    kind: str
    text: str

    @property
    def sign(self) -> Sign:
        """How it is drawn."""
        return SIGNS[self.kind]


def happenings(detail: RunDetail) -> list[Happening]:
    """All that has a sign, by step; at one step what matters most comes last."""
    found = [h for event in detail.events if (h := _of_event(event)) is not None]
    told = {(h.step, h.kind) for h in found}
    for one in detail.checkpoints:  # of older ones the event may have scrolled away
        what = f"{one_line(one.name, 60)}, {format_bytes(one.bytes)}"
        if (one.step, "checkpoint_saved") not in told:
            found.append(Happening(one.step, "checkpoint_saved", what))
        if one.is_best and (one.step, "new_best") not in told:
            found.append(Happening(one.step, "new_best", f"the best checkpoint: {what}"))
    if detail.given_up_after is not None:
        told_of = "what follows was made by an attempt that was given up"
        found.append(Happening(detail.given_up_after, "here", told_of))
    return sorted(found, key=lambda h: (h.step, _RANKS[h.kind]))


def _of_event(event: EventView) -> Happening | None:
    kind = event.kind.replace(" ", "_")
    if kind not in SIGNS or event.step is None:
        return None
    if kind == "started" and event.step == 0:
        return None  # the beginning is no news
    return Happening(event.step, kind, event.text)


def in_drawing_order(found: Sequence[Happening]) -> list[Happening]:
    """What matters most last, so that it lies on top."""
    return sorted(found, key=lambda h: (_RANKS[h.kind], h.step))


class Phase(NamedTuple):
    """The run was in phase `name` from step `start` on. `name` is safe to show."""

    start: int
    name: str
    ink: str


def phases(view: RunView) -> list[Phase]:
    """The phases of a run in the colours they have everywhere on the screen."""
    inks = phase_inks(view.transitions)
    ordered = sorted(view.transitions, key=lambda t: t.step)
    return [Phase(t.step, one_line(t.to, 40), inks[t.to]) for t in ordered]


def phase_inks(transitions: Sequence[PhaseTransition]) -> dict[str, str]:
    """The colour name of each phase: the known ones have their own, others take turns.

    In the same order as `monitor.palette.Colours.phases`.
    """
    inks: dict[str, str] = {}
    others = 0
    for name in (t.to for t in transitions):
        if name in inks:
            continue
        if name in _NAMED_PHASES:
            inks[name] = f"phase-{name}"
        else:
            inks[name] = f"phase-{others % _OTHER_PHASES + 1}"
            others += 1
    return inks
