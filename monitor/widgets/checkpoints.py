"""The checkpoints of the selected run, newest first: a short list, and a page with a cursor."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from monitor.data.views import RunDetail
from monitor.palette import Colours
from monitor.widgets.cells import Piece, ago, fit, line, number, thousands, wrapped
from monitor.widgets.page import Line, Page
from monitor.widgets.panel import Panel
from shared.checkpoints.catalogue import CheckpointInfo
from shared.text import format_bytes

_NAME = 14
_ROOM_FOR_WORDS = 100  # columns from which marks have words beside their symbols
_ROOM_FOR_PLACES = 130  # columns from which the upload address is shown
_FIXED = 64  # cells of the other columns and of the marks


class Checkpoints(Panel):
    """A heading and one line per checkpoint."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._found: tuple[CheckpointInfo, ...] = ()
        self._uploaded: Collection[str] = ()
        self._now = 0.0

    def show(
        self, found: tuple[CheckpointInfo, ...], uploaded: Collection[str], now: float
    ) -> None:
        """Show these checkpoints with their ages at `now`."""
        if len(found) != len(self._found):
            self.refresh(layout=True)
        self._found, self._uploaded, self._now = found, uploaded, now
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The height of the heading and all checkpoints; CSS limits it."""
        return 1 + max(1, len(self._found))

    def draw(self, width: int, height: int) -> list[Strip]:
        """A heading, then as many as there is room for."""
        colours = self.colours
        muted = colours.style("muted")
        rows = max(0, height - 1)
        newest = tuple(reversed(self._found))
        # The best checkpoint stays visible, however many newer ones there are.
        shown = newest[:rows]
        if rows and len(newest) > rows:
            best = [c for c in newest[rows:] if c.is_best]
            shown = (*newest[: rows - len(best)], *best)
        count = f"checkpoints {len(newest)}"
        if len(shown) < len(newest):
            count += f", {len(shown)} shown"
        titles = _titles(count, width, colours, rewarded=_rewarded(newest))
        strips = [line(titles, width, self.base + self.heading_style())]
        if not newest and rows:
            strips.append(line([(" no checkpoints yet", muted)], width, self.base))
        for info in shown:
            pieces = [(" ", muted), *_facts(info, width, self._now, colours)]
            pieces += _signs(info, self._uploaded, colours)
            strips.append(line(pieces, width, self.base))
        return strips


class CheckpointsPage(Page):
    """All checkpoints; one is under the cursor, some are marked."""

    title = "checkpoints"

    class Clicked(Message):
        """A checkpoint was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run_id = ""
        self._found: tuple[CheckpointInfo, ...] = ()
        self._uploads: Mapping[str, str] = {}
        self._protected: Mapping[str, str] = {}
        self._tasks: Mapping[str, tuple[str, ...]] = {}
        self._marked: Collection[str] = ()
        self._verified: Mapping[str, bool] = {}
        self._cursor = ""
        self._active = False
        self._now = 0.0

    def show(
        self,
        detail: RunDetail | None,
        cursor: str,
        marked: Collection[str],
        now: float,
        *,
        verified: Mapping[str, bool],
        active: bool,
    ) -> None:
        """Show the checkpoints of this run, with the cursor on the one named `cursor`.

        `verified` says which of the verified checkpoints are sound.
        """
        run_id = detail.run_id if detail else ""
        if run_id != self._run_id:
            self._top = 0
        moved = (run_id, cursor) != (self._run_id, self._cursor)
        self._run_id = run_id
        self._found = found = detail.checkpoints if detail else ()
        self._uploads = detail.uploads if detail else {}
        self._tasks = detail.suites if detail else {}
        self._protected = detail.protected if detail else {}
        self._verified = verified
        self._cursor, self._marked, self._active, self._now = cursor, marked, active, now
        if moved:
            names = [c.name for c in reversed(found)]
            at = names.index(cursor) if cursor in names else 0
            rows = max(1, self.rows - 1)
            self._top = 0 if at == 0 else max(min(self._top, at + 1), at + 2 - rows)
        self.redraw()

    def lines(self, width: int, colours: Colours) -> list[Line]:
        """Titles, one line per checkpoint, and a legend."""
        muted = colours.style("muted")
        if not self._found:
            return [[(" no checkpoints yet", muted)]]
        total = sum(c.bytes for c in self._found)
        count = f"{len(self._found)}, {format_bytes(total)}"
        if self._marked:
            count = f"{len(self._marked)} of {len(self._found)} marked"
        rewarded = _rewarded(self._found)
        lines: list[Line] = [_titles(count, width - 2, colours, indent="   ", rewarded=rewarded)]
        lines += [self._one(info, width, colours) for info in reversed(self._found)]
        lines += self._suites(width, colours)
        lines += [[], *_legend(width, colours)]
        return lines

    def _suites(self, width: int, colours: Colours) -> list[Line]:
        """How they did on suites of tasks."""
        told = [(c.name, x) for c in reversed(self._found) for x in self._tasks.get(c.name, ())]
        if not told:
            return []
        muted, text = colours.style("muted"), colours.style("foreground")
        lines: list[Line] = [[], [(" suites of tasks", muted)]]
        for name, suite in told:
            for index, part in enumerate(wrapped(suite, max(16, width - _NAME - 5))):
                lines.append(
                    [("   " + fit("" if index else name, _NAME) + " ", muted), (part, text)]
                )
        return lines

    def _one(self, info: CheckpointInfo, width: int, colours: Colours) -> Line:
        here, marked = info.name == self._cursor, info.name in self._marked
        pieces: Line = [
            (
                "▌" if here else " ",
                colours.style("primary" if self._active else "faint", bold=True),
            ),
            ("◆ " if marked else "  ", colours.style("outside", bold=True)),
            *_facts(info, width - 2, self._now, colours),
            *self._marks(info, width, colours),
        ]
        if not here:
            return pieces
        under = colours.selected(active=self._active)
        strip = line(pieces, width, under)
        return [(s.text, s.style or under) for s in strip]

    def _marks(self, info: CheckpointInfo, width: int, colours: Colours) -> Line:
        """Its marks: words where there is room, otherwise symbols."""
        words = width >= _ROOM_FOR_WORDS
        reason = self._protected.get(info.name, "")
        said = {word for word, told in (("best", info.is_best), ("latest", info.is_latest)) if told}
        pieces: Line = []
        if reason:
            why = f" {reason}" if words and set(reason.split(", ")) - said else ""
            pieces.append((f"▪{why} ", colours.style("protected")))
        pieces += _signs(info, self._uploads, colours, words=words)
        sound = self._verified.get(info.name)
        if sound is not None:
            sign, word, ink = ("✓", "verified", "good") if sound else ("✗", "damaged", "error")
            pieces.append((f"{sign} {word} " if words else f"{sign} ", colours.style(ink)))
        where = self._uploads.get(info.name, "")
        if where and width >= _ROOM_FOR_PLACES:
            pieces.append((f"{where} ", colours.style("muted")))
        return pieces

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the checkpoint under the pointer."""
        index = self._top + event.y - 2
        if event.y >= 1 and 0 <= index < len(self._found):
            self.post_message(self.Clicked(self._found[-1 - index].name))


def _name_width(width: int) -> int:
    return max(_NAME, min(30, width - _FIXED))


def _rewarded(found: Sequence[CheckpointInfo]) -> bool:
    """Whether they are of reinforcement learning, whose losses say nothing."""
    return any(info.val_reward is not None for info in found)


def _titles(
    count: str, width: int, colours: Colours, indent: str = " ", *, rewarded: bool = False
) -> Line:
    muted = colours.style("muted")
    return [
        (indent + fit(count, _name_width(width) + 10), muted),
        (fit("size", 10, right=True), muted),
        (fit("age", 5, right=True), muted),
        (fit("loss", 8, right=True), muted),
        (fit("reward" if rewarded else "val loss", 9, right=True), muted),
    ]


def _facts(info: CheckpointInfo, width: int, now: float, colours: Colours) -> list[Piece]:
    text, muted = colours.style("foreground"), colours.style("muted")
    age = ago(now - info.created_at) if info.created_at else "-"
    held_out = info.val_loss if info.val_reward is None else info.val_reward
    return [
        (fit(info.name, _name_width(width)), text if info.whole else colours.style("error")),
        (fit(thousands(info.step), 10, right=True), text),
        (fit(format_bytes(info.bytes) if info.bytes else "-", 10, right=True), text),
        (fit(age, 5, right=True), muted),
        (fit(number(info.loss), 8, right=True), text),
        (fit(number(held_out), 9, right=True), text),
        ("  ", text),
    ]


def _signs(
    info: CheckpointInfo, uploaded: Collection[str], colours: Colours, *, words: bool = True
) -> list[Piece]:
    """Its state as symbols, with `words` where there is room."""
    told = (
        (not info.whole, "✗", "incomplete", colours.style("error", bold=True)),
        (info.is_best, "★", "best", colours.style("val", bold=True)),
        (info.is_latest, "●", "latest", colours.style("primary")),
        (info.ends_stage, "◣", "before growth", colours.style("muted")),
        (info.packed, "▣", "compressed", colours.style("muted")),
        (info.name in uploaded, "↑", "uploaded", colours.style("uploaded")),
    )
    return [
        (f"{sign} {word} " if words else f"{sign} ", style)
        for holds, sign, word, style in told
        if holds
    ]


def _legend(width: int, colours: Colours) -> list[Line]:
    muted = colours.style("muted")
    told = (
        "▪ protected from pruning · ★ best · ● latest · ◣ last before growth",
        "▣ compressed · ↑ uploaded",
        "✓ checksums verified · ✗ damaged or incomplete",
        "Space marks · P prunes · u uploads · v verifies · c saves one of a live run",
    )
    return [[(f" {x}", muted)] for text in told for x in wrapped(text, width - 2)]
