"""A small app with one pane of charts, as the real one holds it."""

from __future__ import annotations

from typing import Any

import numpy as np
from textual.app import App, ComposeResult

from monitor.chart_state import ChartState
from monitor.data.views import EventView, RunDetail, RunView
from monitor.theme import THEMES
from monitor.widgets.chart_grid import ChartGrid
from monitor.widgets.chart_pane import ChartMoved, ChartPane
from shared.run.records import PhaseTransition
from tests.monitor.support import NOW, series, view

Run = tuple[RunView, RunDetail]


class ChartApp(App[None]):
    """Owns the state, as the real app does, and notes what the charts tell it."""

    CSS = "Screen { background: $background; color: $foreground; } ChartPane { height: 1fr; }"

    def __init__(self, pane: ChartPane, *runs: Run, state: ChartState | None = None) -> None:
        super().__init__()
        self.register_theme(THEMES["night"])
        self.theme = "night"
        self.pane = pane
        self.runs = runs
        self.state = state or ChartState()
        self.moves = 0
        self.opened: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_mount(self) -> None:
        self.pane.show(self.runs, self.state)

    def on_chart_moved(self, message: ChartMoved) -> None:
        self.moves += 1
        self.state = message.state
        self.pane.show(self.runs, self.state)

    def on_chart_grid_opened(self, message: ChartGrid.Opened) -> None:
        self.opened.append(message.key)

    def give(self, *runs: Run) -> None:
        """Newer data."""
        self.runs = runs
        self.pane.show(runs, self.state)


def metrics_run(run_id: str = "a", steps: int = 1000, metrics: int = 5, **fields: Any) -> Run:
    """A run with losses, `metrics` more series, phases and events."""
    noise = np.random.default_rng(0)
    found = {
        "loss": series("loss", np.linspace(9, 1, steps) + noise.normal(0, 0.1, steps)),
        "tokens_total": series("tokens_total", np.arange(steps) * 512.0),
        **{f"m{i}": series(f"m{i}", noise.normal(i, 1, steps)) for i in range(metrics - 1)},
        "val_loss": series("val_loss", np.linspace(9, 1, max(1, steps // 100)), 100),
    }
    events = (
        EventView(NOW, steps // 2, "spike", "loss 12, far above the mean"),
        EventView(NOW, steps // 4, "checkpoint saved", "step_250"),
    )
    transitions = (
        PhaseTransition(0, "", "warmup", NOW),
        PhaseTransition(steps // 5, "warmup", "full", NOW),
    )
    detail = RunDetail(
        run_id, found["loss"], found["val_loss"], series=found, events=events, version=1
    )
    return view(run_id, transitions=transitions, **fields), detail
