"""The loss curve on a model card."""

from __future__ import annotations

from collections.abc import Sequence

from shared.charts.figure import Curve as FigureCurve
from shared.charts.figure import Figure, RawPoints, whole_window
from shared.charts.phases import phase_bands
from shared.hub.source import Curve
from shared.run.records import PhaseTransition


def draw_curve(curve: Curve, title: str = "", phases: Sequence[PhaseTransition] = ()) -> bytes:
    """The losses as a PNG: training in blue, validation in orange, non-finite values in red."""
    from shared.charts.png import draw_png

    curves = [
        FigureCurve(series.key, ink, RawPoints(series))
        for series, ink in ((curve.loss, "train"), (curve.val_loss, "val"))
        if len(series)
    ]
    return draw_png(
        Figure(
            curves,
            whole_window(curves),
            title=title,
            y_name="loss",
            log_y=None,
            whole=True,
            bands=phase_bands(phases),
        )
    )
