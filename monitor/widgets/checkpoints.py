"""The checkpoints of the selected run, newest first."""

from __future__ import annotations

from textual.geometry import Size
from textual.strip import Strip

from monitor.theme import Colours
from monitor.widgets.cells import Piece, ago, fit, line, number, thousands
from monitor.widgets.panel import Panel
from shared.catalogue import CheckpointInfo
from shared.text import format_bytes


class Checkpoints(Panel):
    """One line per checkpoint: name, step, size, age, losses, marks."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._found: tuple[CheckpointInfo, ...] = ()
        self._now = 0.0

    def show(self, found: tuple[CheckpointInfo, ...], now: float) -> None:
        """Show these checkpoints with their ages at `now`."""
        if len(found) != len(self._found):
            self.refresh(layout=True)
        self._found, self._now = found, now
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Heading and all checkpoints; CSS sets the limit."""
        return 1 + max(1, len(self._found))

    def draw(self, width: int, height: int) -> list[Strip]:
        """A heading, then as many as there is room for."""
        colours = self.colours
        muted = colours.style("muted")
        rows = max(0, height - 1)
        newest = tuple(reversed(self._found))
        # What latest and best point at stays in sight, however many newer ones there are.
        shown = newest[:rows]
        if rows and len(newest) > rows:
            best = [c for c in newest[rows:] if c.is_best]
            shown = (*newest[: rows - len(best)], *best)
        count = f"checkpoints {len(newest)}"
        if len(shown) < len(newest):
            count += f", {len(shown)} shown"
        name = max(14, min(30, width - 64))
        heading = [
            (" " + fit(count, name + 12), muted),
            (fit("size", 10, right=True), muted),
            (fit("age", 6, right=True), muted),
            (fit("loss", 9, right=True), muted),
            (fit("val loss", 10, right=True), muted),
        ]
        strips = [line(heading, width, self.base + self.heading_style())]
        if not newest and rows:
            strips.append(line([(" none saved yet", muted)], width, self.base))
        strips += [self._line(info, name, colours, width) for info in shown]
        return strips

    def _line(self, info: CheckpointInfo, name: int, colours: Colours, width: int) -> Strip:
        text, muted = colours.style("foreground"), colours.style("muted")
        age = ago(self._now - info.created_at) if info.created_at else "-"
        pieces: list[Piece] = [
            (" " + fit(info.name, name), text if info.whole else colours.style("error")),
            (fit(thousands(info.step), 12, right=True), text),
            (fit(format_bytes(info.bytes) if info.bytes else "-", 10, right=True), text),
            (fit(age, 6, right=True), muted),
            (fit(number(info.loss), 9, right=True), text),
            (fit(number(info.val_loss), 10, right=True), text),
            ("  ", text),
        ]
        if not info.whole:
            pieces.append(("✗ incomplete ", colours.style("error", bold=True)))
        if info.is_best:
            pieces.append(("★ best ", colours.style("val", bold=True)))
        if info.is_latest:
            pieces.append(("latest", colours.style("primary")))
        return line(pieces, width, self.base)
