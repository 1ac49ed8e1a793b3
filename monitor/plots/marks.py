"""What happened to a run, as signs on the x axis."""

from __future__ import annotations

from monitor.data.views import RunDetail
from shared.charts.marks import Happening, by_step, happening
from shared.text import format_bytes, one_line


def happenings(detail: RunDetail) -> list[Happening]:
    """All that has a sign, by step; at one step what matters most comes last."""
    found = [h for e in detail.events if (h := happening(e.kind, e.step, e.text)) is not None]
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
    return by_step(found)
