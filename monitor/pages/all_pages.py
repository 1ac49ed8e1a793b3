"""Every page of the monitor, in the order of their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from monitor.pages.charts import ChartsPage
from monitor.pages.checkpoints import CheckpointsPage
from monitor.pages.config import config_page
from monitor.pages.dynamics import DynamicsPage
from monitor.pages.lines import events_page, log_page
from monitor.pages.overview import OverviewPage
from monitor.pages.page import PageController
from monitor.pages.samples import SamplesPage
from monitor.pages.table import TablePage, Want
from monitor.plots.curves import CurveStore


@dataclass(frozen=True)
class Pages:
    """Those that keys act on, and all by their names."""

    overview: OverviewPage
    charts: ChartsPage
    checkpoints: CheckpointsPage
    samples: SamplesPage
    table: TablePage
    by_name: Mapping[str, PageController]


def make_pages(store: CurveStore, want_outlines: Want, *, ascii: bool) -> Pages:
    """All of them, drawing from one `store`; the table asks for outlines of runs."""
    overview = OverviewPage(store, ascii=ascii)
    charts = ChartsPage(store, ascii=ascii)
    dynamics = DynamicsPage(store, ascii=ascii)
    checkpoints = CheckpointsPage()
    samples = SamplesPage()
    table = TablePage(want_outlines)
    every = (
        overview, charts, dynamics, checkpoints, events_page(), log_page(), config_page(),
        samples, table,
    )  # fmt: skip
    return Pages(overview, charts, checkpoints, samples, table, {page.name: page for page in every})
