"""The selected run in three lines: status, progress, measures; and its phases."""

from __future__ import annotations

from rich.cells import cell_len
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip

from monitor.data.main_metric import REWARD
from monitor.data.views import RunDetail, RunView
from monitor.palette import status_sign
from monitor.widgets.cells import Piece, bar, fit_middle, line, number, spread, thousands
from monitor.widgets.details import best, passes, time_left
from monitor.widgets.panel import Panel
from shared.text import format_count, format_duration, one_line

_LEAST_NAME = 12  # cells of a name that is followed by an id
_NEWEST = (REWARD, "mfu", "learning_rate", "gradient_norm")


class RunHead(Panel):
    """Name, status and reason; progress and speed; losses and other measures."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view: RunView | None = None
        self._newest: tuple[tuple[str, float], ...] = ()

    def show(self, view: RunView | None, detail: RunDetail | None) -> None:
        """Show this run."""
        known = detail.newest if detail else {}
        rewards = detail.series.get(REWARD) if detail else None
        if rewards is not None and len(rewards):  # only the first step of an iteration has one
            known = {**known, REWARD: float(rewards.values[-1])}
        newest = tuple((key, known[key]) for key in _NEWEST if key in known)
        if (view, newest) != (self._view, self._newest):
            self._view, self._newest = view, newest
            self.redraw()

    def draw(self, width: int, height: int) -> list[Strip]:
        """Three lines."""
        view = self._view
        if view is None:
            return []
        return [self._title(view, width), self._progress(view, width), self._measures(view, width)]

    def _title(self, view: RunView, width: int) -> Strip:
        colours = self.colours
        muted, text = colours.style("muted"), colours.style("foreground", bold=True)
        status = colours.status(view.status, bold=True)
        sign = f" {status_sign(view.status)} {view.status} "
        left: list[Piece] = [
            (sign, status),
            *_names(view, text, muted, width - cell_len(sign)),
            *[(f" #{tag}", colours.style("tag")) for tag in view.tags],
        ]
        if view.note:
            # A problem matters more than the device, so it gets all the room.
            style = colours.status(view.status) if view.reason else colours.style("warning")
            return line([*left, (f"  {view.note}", style)], width, self.base)
        right: list[Piece] = []
        model = dict(view.model)
        parts = [view.device, _parameters(model.get("parameters", ""))]
        if view.attempt > 1:
            parts.append(f"attempt {view.attempt}")
        if any(parts):
            right = [(" · ".join(p for p in parts if p) + " ", muted)]
        return spread(left, right, width, self.base)

    def _progress(self, view: RunView, width: int) -> Strip:
        colours = self.colours
        muted, text = colours.style("muted"), colours.style("foreground")
        fraction = view.fraction
        length = 12 if width < 100 else 24
        pieces: list[Piece] = [(" ", muted)]
        if fraction is not None:
            pieces += bar(fraction, length, colours.status(view.status), colours.style("faint"))
            pieces.append((f" {fraction:.1%}", text))
        steps = thousands(view.step)
        if view.max_steps:
            steps += f" / {thousands(view.max_steps)}"
        pieces += [("  step ", muted), (steps, text)]
        if left := time_left(view):
            pieces += [("  left ", muted), (left, text)]
        elif not view.alive and view.trained_seconds is not None:
            took = format_duration(view.trained_seconds)
            pieces += [("  trained for ", muted), (took, text)]
        if view.tokens_per_second:
            speed = f"{format_count(view.tokens_per_second)} tok/s"
            pieces += [("  ", muted), (speed, text)]
        return line(pieces, width, self.base)

    def _measures(self, view: RunView, width: int) -> Strip:
        """Best, losses, MFU, learning rate, passes: as many as there is room for."""
        colours, newest = self.colours, dict(self._newest)
        muted, text = colours.style("muted"), colours.style("foreground")
        loss = number(view.loss) if view.loss is not None else ""
        told = [
            ("reward", number(newest[REWARD])) if REWARD in newest else ("loss", loss),
            ("best", best(view)),
            ("mfu", f"{newest['mfu']:.1%}" if "mfu" in newest else ""),
            ("lr", number(newest["learning_rate"], 3) if "learning_rate" in newest else ""),
            ("grad", number(newest["gradient_norm"], 3) if "gradient_norm" in newest else ""),
            ("passes", passes(view)),
        ]
        pieces: list[Piece] = []
        room = width
        for label, value in told:
            cells = cell_len(label) + cell_len(value) + 3
            if value and cells <= room:
                pieces += [(f" {label} ", muted), (f"{value} ", text)]
                room -= cells
        return line(pieces, width, self.base)


class Ending(Panel):
    """Why the run ended, and its last log lines."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view: RunView | None = None

    @staticmethod
    def says_something(view: RunView | None) -> bool:
        """Whether the run ended badly and left log lines."""
        bad = view is not None and view.status in ("crashed", "failed")
        return view is not None and bad and bool(view.last_log_lines)

    def show(self, view: RunView | None) -> None:
        """Show how this run ended."""
        view = view if self.says_something(view) else None  # a living one changes all the time
        if view != self._view:
            before, self._view = self._height, view
            if self._height != before:
                self.refresh(layout=True)
            self.redraw()

    @property
    def _height(self) -> int:
        return 1 + len(self._view.last_log_lines) if self._view else 1

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The height of the heading and the lines; CSS limits it."""
        return self._height

    def draw(self, width: int, height: int) -> list[Strip]:
        """The heading, and the last of the lines."""
        view, colours = self._view, self.colours
        if view is None:
            return []
        bad = colours.status(view.status, bold=True)
        code = "" if view.exit_code is None else f" with exit code {view.exit_code}"
        heading: list[Piece] = [
            (f" {view.status}{code}", bad),
            ("  last log lines; 6 shows more", colours.style("muted")),
        ]
        strips = [line(heading, width, self.base + self.heading_style())]
        for said in view.last_log_lines[-max(0, height - 1) :]:
            pieces: list[Piece] = [(" ▌", bad), (said, colours.style("foreground"))]
            strips.append(line(pieces, width, self.base))
        return strips


class PhaseLine(Panel):
    """The current phase and the ones before it."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view: RunView | None = None

    def show(self, view: RunView | None) -> None:
        """Show this run's phases."""
        if view != self._view:
            self._view = view
            self.redraw()

    def draw(self, width: int, height: int) -> list[Strip]:
        """One line; the oldest transitions are left out first."""
        view, colours = self._view, self.colours
        muted, text = colours.style("muted"), colours.style("foreground")
        if view is None or not (view.phase or view.transitions):
            return [line([(" no phases" if view else "", muted)], width, self.base)]
        styles = colours.phases([*(t.to for t in view.transitions), view.phase])
        pieces: list[Piece] = [
            (" phase ", muted),
            (f"■ {view.phase or '-'}", styles[view.phase] if view.phase else text),
        ]
        if view.transitions and view.transitions[-1].to == view.phase:
            pieces.append((f" since {thousands(view.transitions[-1].step)}", muted))
        room = width - sum(len(t) for t, _ in pieces) - 4
        history: list[list[Piece]] = []
        for transition in reversed(view.transitions):
            item: list[Piece] = [
                (transition.to, styles[transition.to]),
                (f" {thousands(transition.step)}", muted),
            ]
            size = sum(len(t) for t, _ in item) + 3
            if size > room:
                history.append([("…", muted)])
                break
            room -= size
            history.append(item)
        if len(view.transitions) > 1:
            pieces.append(("   ", muted))
            for index, item in enumerate(reversed(history)):
                pieces += [(" → ", muted)] if index else []
                pieces += item
        return [line(pieces, width, self.base)]


def _names(view: RunView, text: Style, muted: Style, room: int) -> list[Piece]:
    """The run's name; one that a person gave is followed by the id, which commands take.

    A long name is shortened until the id has its place in `room` cells.
    """
    run_id = one_line(view.run_id, 120)
    if view.label == run_id:
        return [(f" {view.name}", text)]
    known = f" ({run_id})"
    name = fit_middle(view.label, max(_LEAST_NAME, room - cell_len(known) - 2))
    return [(f" {name}", text), (known, muted)]


def _parameters(value: str) -> str:
    try:
        return f"{format_count(float(value))} params" if value else ""
    except ValueError:
        return ""
