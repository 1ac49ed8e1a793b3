"""Pictures as Textual strips."""

from __future__ import annotations

from rich.segment import Segment
from textual.strip import Strip

from monitor.chart.picture import Picture
from monitor.ink_styles import InkStyles


class StripMaker(InkStyles):
    """Turns pictures into strips."""

    def strips(self, picture: Picture) -> list[Strip]:
        """One strip for each row of `picture`, in the fewest segments."""
        width = picture.width
        return [
            Strip([Segment(text, self.style(ink, ground)) for text, ink, ground in row], width)
            for row in picture.rows()
        ]
