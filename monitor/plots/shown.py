"""A run on the charts."""

from __future__ import annotations

from dataclasses import dataclass

from monitor.data.views import RunDetail, RunView
from monitor.plots.curves import RunCurves


@dataclass(frozen=True, eq=False)
class Shown:
    """One of the runs on the charts."""

    view: RunView
    detail: RunDetail
    curves: RunCurves
    ink: str
    label: str
