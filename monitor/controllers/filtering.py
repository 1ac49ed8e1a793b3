"""The line in which a filter is typed: of the runs in the list, or of the metrics on the charts."""

from __future__ import annotations

import dataclasses

from textual import events

from monitor.controllers.host import Acts, Host
from monitor.pages.charts import ChartsPage
from monitor.widgets.bars import KeyBar, Prompt


class Filtering:
    """The key that opens the line, and what is typed there."""

    def __init__(self, host: Host, prompt: Prompt, keys: KeyBar, charts: ChartsPage) -> None:
        self._host, self._prompt, self._keys, self._charts = host, prompt, keys, charts
        self._of_metrics = False

    def acts(self) -> Acts:
        """What each of its actions does."""
        return {"filter": self.open}

    def open(self) -> None:
        """Ask for a filter of what has the keys: the charts, or the list of runs."""
        look = self._host.look
        self._of_metrics = look.page == "charts" and look.in_page
        if self._of_metrics:
            self._prompt.open(look.chart.query, "metrics")
        else:
            self._host.look = dataclasses.replace(look, run_list=True)
            self._prompt.open(look.order.query, "filter")
        self._keys.display = False

    def takes(self, event: events.Event) -> bool:
        """Give a key to the filter that was on its way when the filter was opened."""
        if not (isinstance(event, events.Key) and event.is_forwarded and self._prompt.is_open):
            return False
        if event.is_printable and event.character:
            self._prompt.type(event.character)
            return True
        if event.key == "enter":
            self._prompt.action_keep()
            return True
        return False

    def typed(self, text: str) -> None:
        """Show what matches so far."""
        host = self._host
        if self._of_metrics:
            self._filter_metrics(text)
            return
        host.look = host.look.ordered(query=text)
        listing = host.listing
        self._prompt.say(listing.problem or f"{len(listing.runs):,} of {listing.total:,}")

    def closed(self, text: str) -> None:
        """Show what matches; keys must not act on a run that is out of sight."""
        host = self._host
        self._keys.display = True
        if self._of_metrics:
            self._filter_metrics(text)
            return
        host.look = dataclasses.replace(host.look.ordered(query=text), in_page=False)
        listed = [run.run_id for run in host.listing.runs]
        if listed and host.look.selected not in listed:
            host.look = host.look.at_run(listed[0])

    def _filter_metrics(self, text: str) -> None:
        look = self._host.look
        self._host.look = dataclasses.replace(look, chart=look.chart.filtered(text))
        pane = self._charts.chart
        if pane is not None:
            metrics = pane.scene.metrics
            self._prompt.say(metrics.problem or f"{len(metrics.keys):,} of {metrics.total:,}")
