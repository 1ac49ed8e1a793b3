"""The events of a run that have a sign on the x axis."""

from __future__ import annotations

from monitor.data.views import RunDetail
from shared.charts.marks import Happening, by_step, happening, without_beaten
from shared.text import format_bytes, one_line


def happenings(detail: RunDetail) -> list[Happening]:
    """Everything that has a sign, by step; at one step the most important comes last."""
    told = (happening(event.kind, event.step, event.text) for event in detail.events)
    found = without_beaten(one for one in told if one is not None)
    best = any(one.kind == "new_best" for one in found)
    known = {(h.step, h.kind) for h in found}
    for one in detail.checkpoints:  # the events of older ones may be out of reach
        what = f"{one_line(one.name, 60)}, {format_bytes(one.bytes)}"
        if (one.step, "checkpoint_saved") not in known:
            found.append(Happening(one.step, "checkpoint_saved", what))
        if one.is_best and not best:
            found.append(Happening(one.step, "new_best", f"the best checkpoint: {what}"))
    if detail.given_up_after is not None:
        text = "the steps after this are from an abandoned attempt"
        found.append(Happening(detail.given_up_after, "here", text))
    return by_step(found)
