"""The list of runs: order, groups, and whether it is shown."""

from __future__ import annotations

import dataclasses

from monitor.controllers.host import Acts, Host
from monitor.look import Look


class Runs:
    """The keys of the list. Whatever changes it shows it."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def acts(self) -> Acts:
        """What each of its actions does."""
        return {
            "run_list": self.toggle_list,
            "sort": self.sort_by_next,
            "group": self.toggle_groups,
            "archived": self.toggle_archived,
        }

    def toggle_list(self) -> None:
        """Show or hide the list."""
        look = self._host.look
        self._host.look = dataclasses.replace(look, run_list=not look.run_list)

    def sort_by_next(self) -> None:
        """Sort by the next of the orders."""
        self.sort(self._host.look.order.sorted_by_next().sort)

    def sort(self, name: str) -> None:
        """Sort by the order of this name."""
        self._host.look = self._listed().ordered(sort=name)
        self._host.tell(f"Sorted by {name}.", "success")

    def toggle_groups(self) -> None:
        """Group runs of one name, or not."""
        look = self._listed()
        self._host.look = look.ordered(grouped=not look.order.grouped)

    def toggle_archived(self) -> None:
        """Show or hide archived runs."""
        look = self._listed()
        self._host.look = look.ordered(show_archived=not look.order.show_archived)

    def _listed(self) -> Look:
        return dataclasses.replace(self._host.look, run_list=True)
