"""All checkpoints of the selected run: a cursor, and marks for pruning."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widget import Widget

from monitor.data.views import RunDetail
from monitor.pages.page import PageController, Seen
from monitor.widgets.checkpoints import CheckpointsPage as CheckpointLines
from shared.checkpoints.catalogue import CheckpointInfo


class CheckpointsPage(PageController):
    """`cursor` names the checkpoint that keys act on; empty before the page was first shown."""

    name = "checkpoints"

    def __init__(self) -> None:
        self.cursor = ""
        self._lines = CheckpointLines(id="checkpoints-page")
        self._marked: dict[str, set[str]] = {}  # names by run
        #: Whether checkpoints whose every byte was read were sound, by path and time of creation.
        self._verified: dict[tuple[object, float], bool] = {}
        self._seen: Seen | None = None

    def marked(self, run_id: str) -> frozenset[str]:
        """The checkpoints of a run that are marked for pruning."""
        return frozenset(self._marked.get(run_id, ()))

    def unmark(self, run_id: str) -> None:
        """Take the marks of a run away."""
        self._marked.pop(run_id, None)

    def keep_verified(self, info: CheckpointInfo, *, sound: bool) -> None:
        """Remember that every byte of `info` was read."""
        self._verified[info.path, info.created_at] = sound

    def widgets(self) -> Sequence[Widget]:
        """The list."""
        return [self._lines]

    def show(self, seen: Seen) -> None:
        """Show the checkpoints of the selected run."""
        self.show_ages(seen)

    def show_ages(self, seen: Seen) -> None:
        """Every line has an age."""
        self._seen = seen
        found = seen.detail.checkpoints if seen.detail else ()
        names = _newest_first(seen.detail)
        if self.cursor not in names:
            self.cursor = names[0] if names else ""
        verified = {
            c.name: self._verified[key]
            for c in found
            if (key := (c.path, c.created_at)) in self._verified
        }
        self._lines.show(
            seen.detail,
            self.cursor,
            self.marked(seen.look.selected or ""),
            seen.now,
            verified=verified,
            active=seen.look.in_page,
        )

    def move(self, by: int) -> None:
        """Move the cursor; without checkpoints there is only a line to scroll."""
        names = _newest_first(self._seen.detail) if self._seen else []
        if self._seen is None or not names:
            self._lines.scroll_by(by)
            return
        at = names.index(self.cursor) if self.cursor in names else 0
        self.cursor = names[min(max(0, at + by), len(names) - 1)]
        self.show_ages(self._seen)

    def turn(self, pages: int) -> None:
        """Scroll by what is seen at once; the cursor stays."""
        self._lines.scroll_pages(pages)

    def mark(self) -> bool:
        """Mark the checkpoint under the cursor, or take its mark away, and go on to the next."""
        run_id = self._seen.look.selected if self._seen else None
        if run_id and self.cursor:
            self._marked.setdefault(run_id, set()).symmetric_difference_update({self.cursor})
            self.move(1)
        return True


def _newest_first(detail: RunDetail | None) -> list[str]:
    return [c.name for c in reversed(detail.checkpoints)] if detail else []
