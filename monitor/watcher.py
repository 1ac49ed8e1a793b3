"""The watcher: snapshots come from a source's thread and become messages of the app."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from textual.message import Message

from monitor.data.outliner import Outlines
from monitor.data.poller import Source
from monitor.data.views import RunDetail, Snapshot

_KEPT_DETAILS = 4  # runs that are shown at once when the selection comes back to them


class SnapshotTaken(Message):
    """New data. A newer snapshot in the queue replaces an older one."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot

    def can_replace(self, message: Message) -> bool:
        """Whether `message`, the next in the queue, may be shown instead of this one."""
        return isinstance(message, SnapshotTaken)


class OutlinesRead(Message):
    """Outlines of runs for the table. A newer report in the queue replaces an older one."""

    def __init__(self, outlines: Outlines) -> None:
        super().__init__()
        self.outlines = outlines

    def can_replace(self, message: Message) -> bool:
        """Whether `message`, the next in the queue, may be shown instead of this one."""
        return isinstance(message, OutlinesRead)


class Watcher:
    """Follows runs through `source`, posts each snapshot, and keeps the details of a few runs."""

    def __init__(self, source: Source, post: Callable[[Message], object]) -> None:
        self._source, self._post = source, post
        self._details: OrderedDict[str, RunDetail] = OrderedDict()

    @property
    def details(self) -> Mapping[str, RunDetail]:
        """The last known details, by run id."""
        return self._details

    def start(self, selected: str | None) -> None:
        """Begin to post snapshots."""
        self._source.start(self._publish)
        if selected is not None:
            self._source.select(selected)

    def _publish(self, snapshot: Snapshot) -> None:
        self._post(SnapshotTaken(snapshot))

    def remember(self, snapshot: Snapshot, marked: int) -> None:
        """Keep the details of `snapshot`, beside those of `marked` runs and of a few before."""
        arrived = dict(snapshot.details)
        if snapshot.detail is not None:
            arrived[snapshot.detail.run_id] = snapshot.detail
        for run_id, detail in arrived.items():
            self._details[run_id] = detail
            self._details.move_to_end(run_id)
        while len(self._details) > _KEPT_DETAILS + marked:
            self._details.popitem(last=False)

    def select(self, run_id: str | None) -> None:
        """Follow this run from now on."""
        self._source.select(run_id)

    def follow(self, run_ids: frozenset[str]) -> None:
        """Follow these too, beside the selected one."""
        self._source.follow(run_ids)

    def refresh(self) -> None:
        """Read everything again now."""
        self._source.refresh()

    def stop(self) -> None:
        """Post no more."""
        self._source.stop()


def only_machine_differs(old: Snapshot, new: Snapshot) -> bool:
    """Whether the runs are the same, so that a busy machine does not redraw everything."""
    return (
        old.runs is new.runs
        and (old.problem, old.watched) == (new.problem, new.watched)
        and old.machine is not None
        and new.machine is not None
        and old.details.keys() == new.details.keys()
        and all(old.details[run_id] is detail for run_id, detail in new.details.items())
        and old.detail is new.detail
    )
