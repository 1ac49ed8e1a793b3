"""The list of runs: filter, order, groups."""

from __future__ import annotations

import dataclasses

from textual import events

from monitor.controllers.host import Acts, Host
from monitor.widgets.bars import KeyBar, Prompt


class Runs:
    """The keys of the list, and the line in which a filter is typed."""

    def __init__(self, host: Host, prompt: Prompt, keys: KeyBar) -> None:
        self._host, self._prompt, self._keys = host, prompt, keys

    def acts(self) -> Acts:
        """What each of its actions does."""
        return {
            "filter": self.open_filter,
            "sort": self.sort_by_next,
            "group": self.toggle_groups,
            "archived": self.toggle_archived,
        }

    def sort_by_next(self) -> None:
        """Sort by the next of the orders."""
        self.sort(self._host.look.order.sorted_by_next().sort)

    def sort(self, name: str) -> None:
        """Sort by the order of this name."""
        self._host.look = self._host.look.ordered(sort=name)
        self._host.tell(f"Sorted by {name}.", "success")

    def toggle_groups(self) -> None:
        """Group runs of one name, or not."""
        look = self._host.look
        self._host.look = look.ordered(grouped=not look.order.grouped)

    def toggle_archived(self) -> None:
        """Show or hide archived runs."""
        look = self._host.look
        self._host.look = look.ordered(show_archived=not look.order.show_archived)

    # -- filter --------------------------------------------------------------------------

    def open_filter(self) -> None:
        """Ask for a filter."""
        self._prompt.open(self._host.look.order.query)
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

    def filter_typed(self, text: str) -> None:
        """List what matches so far."""
        host = self._host
        host.look = host.look.ordered(query=text)
        listing = host.listing
        self._prompt.say(listing.problem or f"{len(listing.runs):,} of {listing.total:,}")

    def filter_closed(self, text: str) -> None:
        """List what matches; keys must not act on a run that is out of sight."""
        host = self._host
        self._keys.display = True
        host.look = dataclasses.replace(host.look.ordered(query=text), in_page=False)
        listed = [run.run_id for run in host.listing.runs]
        if listed and host.look.selected not in listed:
            host.look = host.look.at_run(listed[0])
