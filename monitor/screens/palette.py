"""The command palette: every action of the registry, every run, and every metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from monitor.actions.registry import ACTIONS
from shared.text import one_line


class Choices(Protocol):
    """What the palette asks of the app that offers it."""

    def runs_by_name(self) -> list[tuple[str, str, str]]:
        """Id, label and status of every run."""

    def go_to(self, run_id: str) -> None:
        """Select a run."""

    def metrics_by_name(self) -> list[str]:
        """Every metric of the runs on the charts."""

    def go_to_metric(self, key: str) -> None:
        """Show the chart of a metric."""


class ActionProvider(Provider):
    """The commands of the palette.

    Names of runs are shown without the matcher's highlighting, which would parse them as markup.
    """

    @property
    def _choices(self) -> Choices:
        return self.app  # type: ignore[return-value]  # only the monitor offers this

    def _offers(self) -> Iterator[tuple[str, str, Callable[[], object]]]:
        """Words, key, and action."""
        for action in ACTIONS:
            yield action.words, action.shown, partial(self.app.run_action, action.call)

    async def discover(self) -> Hits:
        """Every action, in the order of the registry."""
        for words, key, act in self._offers():
            yield DiscoveryHit(_shown(words, key), act, text=words)

    async def search(self, query: str) -> Hits:
        """The matching actions, then the matching runs and metrics."""
        matcher = self.matcher(query)
        for words, key, act in self._offers():
            score = matcher.match(words)
            if score > 0:
                yield Hit(score, _shown(words, key), act, text=words)
        for run_id, label, status in self._choices.runs_by_name():
            words = f"go to {label}"
            if one_line(run_id) not in label:  # it was renamed
                words += f" ({one_line(run_id)})"
            score = matcher.match(words)
            if score > 0:
                go = partial(self._choices.go_to, run_id)
                yield Hit(score, _shown(words, status), go, text=words)
        for key in self._choices.metrics_by_name():
            words = f"chart of {one_line(key)}"
            score = matcher.match(words)
            if score > 0:
                show = partial(self._choices.go_to_metric, key)
                yield Hit(score, _shown(words, "metric"), show, text=words)


def _shown(words: str, remark: str) -> Content:
    return Content.assemble(f"{words}  ", (remark, "dim"))
