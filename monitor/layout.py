"""Which panes there is room for, and which are wanted."""

from __future__ import annotations

from dataclasses import dataclass

from monitor.chart.terminal import MIN_HEIGHT, MIN_WIDTH
from monitor.data.views import Snapshot
from monitor.look import TABLE, Look

WIDE, TALL = 120, 32  # cells from which list and page lie side by side, and there is room for more
BROAD = 180  # cells from which the list gets a larger share


@dataclass(frozen=True)
class Layout:
    """The panes at a size of `width` by `height` cells. `empty`: there are no runs to show."""

    width: int
    height: int
    details: bool
    machine: bool
    run_list: bool
    empty: bool
    deep: bool
    table: bool

    @classmethod
    def fitting(cls, width: int, height: int, look: Look, snapshot: Snapshot | None) -> Layout:
        """What `look` asks for, as far as there is room."""
        wide, tall = width >= WIDE, height >= TALL
        known = snapshot is not None and snapshot.machine is not None
        # Beside the charts there is a place for the machine as long as the list is there.
        roomy = wide and tall and look.run_list
        machine = roomy if look.machine is None else look.machine
        return cls(
            width,
            height,
            details=wide if look.details is None else look.details,
            machine=machine and known,
            run_list=look.run_list,
            empty=snapshot is None or not snapshot.runs,
            # Where there is little room, it goes to what the keys act on.
            table=look.page == TABLE,
            deep=look.in_page and not (look.page == "overview" or wide or tall),
        )

    @property
    def is_wide(self) -> bool:
        """Whether list and page lie side by side."""
        return self.width >= WIDE

    @property
    def is_tall(self) -> bool:
        """Whether there is room for more than the essential."""
        return self.height >= TALL

    @property
    def is_too_small(self) -> bool:
        """Whether nothing can be shown."""
        return self.width < MIN_WIDTH or self.height < MIN_HEIGHT

    def classes(self) -> dict[str, bool]:
        """The classes of the screen that depend on it."""
        return {
            "-empty": self.empty or self.is_too_small,
            "-details": self.details,
            "-broad": self.width >= BROAD,
            "-deep": self.deep,
            "-unlisted": not self.run_list,
            "-table": self.table,
        }
