"""Runs as of their newest records, which are up to a second ahead of the states."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from monitor.data.main_metric import loss_key
from monitor.data.views import RunDetail, RunView


def newest_of(runs: tuple[RunView, ...], details: Mapping[str, RunDetail]) -> tuple[RunView, ...]:
    """`runs` updated from `details`; the same object if nothing changed."""
    found = tuple(_newest(view, details.get(view.run_id)) for view in runs)
    return runs if all(new is old for new, old in zip(found, runs, strict=True)) else found


def _newest(view: RunView, detail: RunDetail | None) -> RunView:
    """`view` updated from its metrics, which are up to a second ahead of the state."""
    if detail is None or detail.loading is not None or detail.newest_step is None:
        return view
    if view.stateless:
        return _told_by_metrics(view, detail, detail.newest_step)
    step = detail.newest_step
    # After a resume the last record still belongs to the previous attempt.
    if not view.alive or step <= view.step or detail.newest.get("attempt", 0) < view.attempt:
        return view
    at = int(np.searchsorted(detail.loss.steps, step))
    if detail.loss.key != "loss" or at == len(detail.loss) or detail.loss.steps[at] != step:
        return dataclasses.replace(view, step=step)
    return dataclasses.replace(view, step=step, loss=float(detail.loss.values[at]))


def _told_by_metrics(view: RunView, detail: RunDetail, step: int) -> RunView:
    """A run without a state, as all of its metrics tell of it."""
    loss = view.loss
    if loss is None and len(detail.loss) and loss_key([detail.loss.key]):
        loss = float(detail.loss.values[-1])
    told = dataclasses.replace(
        view,
        step=step if detail.given_up_after is None else detail.given_up_after,
        loss=loss,
        phase=detail.transitions[-1].to if detail.transitions else view.phase,
        transitions=detail.transitions,
    )
    return view if repr(told) == repr(view) else told


#: What a living run's state repeats of its metrics, a moment after them.
_REPEATED: dict[str, Any] = {
    "step": 0,
    "loss": None,
    "updated_at": None,
    "eta_seconds": None,
    "tokens_per_second": None,
    "tokens_total": 0,
    "total_forward": 0,
    "total_backward": 0,
    "trained_seconds": None,
}


def differ(
    new: Sequence[RunView], old: Sequence[RunView], followed: Collection[str]
) -> tuple[bool, bool]:
    """Whether the runs differ; and whether in nothing but what the metrics of a `followed` one have
    told already.
    """
    if len(new) != len(old):
        return True, False
    pairs = [(one, before) for one, before in zip(new, old, strict=True) if one is not before]
    if all(one == before for one, before in pairs):
        return False, False
    return True, all(
        one.alive and one.run_id in followed and _lasting(one) == _lasting(before)
        for one, before in pairs
    )


def _lasting(view: RunView) -> RunView:
    return dataclasses.replace(view, **_REPEATED)
