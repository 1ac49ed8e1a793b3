"""The first look: the curve on the terminal while Textual is still loading.

The same `Poller` reads the run that the app will select, and the same code draws its chart: nothing
is read twice, and the app's first screen shows the same curve in the same place.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

from rich.color import ColorSystem
from rich.style import Style

from monitor.chart.picture import Ink, Picture, clip
from monitor.chart.terminal import MIN_HEIGHT, MIN_WIDTH
from monitor.chart_state import ChartState
from monitor.data.poller import Poller
from monitor.data.views import Snapshot
from monitor.ink_styles import InkStyles
from monitor.list_order import ListOrder, arrange
from monitor.palette import PALETTES, Colours
from monitor.plots.curves import CurveStore
from monitor.plots.paint import paint
from monitor.plots.scene import Scene
from monitor.settings import Settings

#: Enter the alternate screen without a cursor; leave it.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[H", "\x1b[?25h\x1b[?1049l"
_RESET = "\x1b[0m"


def screen(
    poller: Poller,
    settings: Settings,
    palette: str,
    environment: Mapping[str, str],
    *,
    selected: str | None,
    ascii: bool,
) -> str:
    """What to write to the terminal; empty without a curve or without room."""
    size = os.get_terminal_size(sys.__stderr__.fileno() if sys.__stderr__ else 2)
    if size.columns < MIN_WIDTH or size.lines < MIN_HEIGHT:
        return ""
    order = ListOrder(settings.sort, "", settings.group, settings.show_archived)
    if selected is not None:
        poller.select(selected)
    snapshot = poller.look(lambda runs: next((r.run_id for r in arrange(runs, order).runs), None))
    state = ChartState.remembered(settings).at_main()
    found = draw(snapshot, state, palette, (size.columns, size.lines), ascii=ascii)
    return encode(found, palette, environment) if found is not None else ""


def draw(
    snapshot: Snapshot, state: ChartState, palette: str, size: tuple[int, int], *, ascii: bool
) -> Picture | None:
    """A screen of `size` cells with the selected run's loss; None without a curve."""
    view = snapshot.run(snapshot.detail.run_id) if snapshot.detail else None
    if view is None or snapshot.detail is None:
        return None
    plain = PALETTES[palette].words["curve-1"] == PALETTES[palette].words["curve-2"]
    scene = Scene([(view, snapshot.detail)], state, CurveStore(), plain=plain, ascii=ascii)
    width, height = size
    if not scene.keys:
        return None
    chart = paint(scene, scene.key, width, height - 2, phases=True).picture
    screen = Picture(width, height)
    for y, text in ((0, f" train-monitor  {snapshot.runs_dir}"), (height - 1, " opening…")):
        screen.grounds[y, :] = screen.ground("panel")
        screen.write(y, 0, clip(text, width), Ink("muted"))
    _put(screen, 1, chart)
    if ascii:
        screen.to_ascii()
    return screen


def _put(screen: Picture, top: int, part: Picture) -> None:
    """Copy `part` onto the rows of `screen` from `top` on; both have the same width."""
    rows = slice(top, top + part.height)
    inks = [screen.ink(*ink) for ink in part.palette]
    grounds = [screen.ground(name) if name else 0 for name in part.ground_names]
    screen.characters[rows] = part.characters
    for y in range(part.height):
        screen.inks[top + y] = [inks[n] for n in part.inks[y]]
        screen.grounds[top + y] = [grounds[n] for n in part.grounds[y]]


def encode(screen: Picture, palette: str, environment: Mapping[str, str]) -> str:
    """`screen` as escape sequences, in the colours of the terminal."""
    known = PALETTES[palette]
    colours = Colours(palette, known.words)
    words = known.words
    base = (
        Style() if colours.flat else Style(color=words["foreground"], bgcolor=words["background"])
    )
    grounds = {"heading": colours.ground("surface"), "panel": colours.ground("panel")}
    styles = InkStyles(colours, base, grounds)
    system = ColorSystem.EIGHT_BIT
    if colours.flat:
        system = ColorSystem.STANDARD
    elif environment.get("COLORTERM") in ("truecolor", "24bit"):
        system = ColorSystem.TRUECOLOR
    rows = (
        "".join(
            styles.style(ink, ground).render(text, color_system=system) for text, ink, ground in row
        )
        for row in screen.rows()
    )
    return _RESET + "\r\n".join(rows)


@contextlib.contextmanager
def shown(text: str, write: Callable[[str], None]) -> Iterator[None]:
    """Show `text` on the alternate screen until the app takes it over.

    An error or a signal before that restores the terminal. The app installs its own handlers,
    which replace the ones set here.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        write(_LEAVE)
        os._exit(128 + number)

    if not text:
        yield
        return
    # Handlers first: a signal must always find somebody to restore the screen.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, end) for number in numbers]
    write(_ENTER + text)
    try:
        yield
    except BaseException:
        write(_LEAVE)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        raise
