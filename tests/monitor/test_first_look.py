"""The curve is on the terminal before the app is loaded, and is the one the app then shows."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from monitor import first_look
from monitor.app import MonitorApp
from monitor.chart_state import ChartState
from monitor.data.poller import Poller
from monitor.data.views import Snapshot
from monitor.palette import NIGHT, PALETTES
from monitor.settings import Settings
from shared.run_writer import RunWriter
from tests.monitor.support import metric_lines, screen_text, until, write_run
from tests.monitor.test_terminal import ALT_SCREEN_OFF, ALT_SCREEN_ON, CURSOR_ON, Terminal

SIZE = os.terminal_size((100, 30))
ENDED = {"status": "completed", "run_name": "ended"}


@pytest.fixture(autouse=True)
def terminal_of_100_by_30(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: SIZE)


def look(runs_dir: Path, settings: Settings | None = None, **options: object) -> str:
    poller = Poller(runs_dir)
    chosen: dict[str, object] = {"selected": None, "ascii": False, **options}
    palette = str(chosen.pop("palette", NIGHT.name))
    environment = chosen.pop("environment", {"COLORTERM": "truecolor"})
    return first_look.screen(poller, settings or Settings(), palette, environment, **chosen)  # type: ignore[arg-type]


def letters(screen: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", screen)


def dots(text: str) -> int:
    return sum("\u2801" <= letter <= "\u28ff" for letter in text)


def test_the_curve_fills_the_screen(tmp_path: Path) -> None:
    write_run(tmp_path, "first", ENDED, metric_lines(500))
    screen = letters(look(tmp_path))
    rows = screen.split("\r\n")
    assert [len(row) for row in rows] == [SIZE.columns] * SIZE.lines
    assert "train-monitor" in rows[0]
    assert "loss" in rows[1]
    assert dots(screen) > 80


async def test_the_app_goes_on_from_what_was_looked_at(tmp_path: Path) -> None:
    """Nothing is read again for the first screen, and it is drawn whole at once."""
    write_run(tmp_path, "first", ENDED, metric_lines(500))
    poller = Poller(tmp_path, 3600.0)
    seen = poller.look(lambda runs: runs[0].run_id)
    published: list[Snapshot] = []
    app = MonitorApp(poller, tmp_path)
    poller.start = lambda publish: published.append(seen) or publish(seen)  # type: ignore[method-assign,func-returns-value]
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: dots(screen_text(app)) > 80)
    assert published == [seen]


def test_the_run_is_the_one_the_app_selects(tmp_path: Path) -> None:
    """By the order that was chosen, not the order on disk."""
    write_run(tmp_path, "aaa", {**ENDED, "run_name": "aaa", "started_at": 5.0}, metric_lines(50))
    long = metric_lines(100, 900_000)
    write_run(tmp_path, "zzz", {**ENDED, "run_name": "zzz", "started_at": 9.0}, long)
    by_name = letters(look(tmp_path, Settings(sort="name")))
    newest = letters(look(tmp_path, Settings(sort="newest")))
    named = letters(look(tmp_path, Settings(sort="name"), selected="zzz"))
    assert "900k" not in by_name
    assert "900" in newest
    assert named == newest


def test_without_a_curve_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    assert look(tmp_path) == ""
    write_run(tmp_path, "first", ENDED)
    assert look(tmp_path) == ""


def test_a_screen_too_small_is_left_to_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, "first", ENDED, metric_lines(500))
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((40, 10)))
    assert look(tmp_path) == ""


@pytest.mark.parametrize(
    ("palette", "environment", "wanted", "unwanted"),
    [
        ("night", {"COLORTERM": "truecolor"}, r"38;2;", r"38;5;"),
        ("day", {"TERM": "xterm-256color"}, r"38;5;", r"38;2;"),
        ("sixteen", {"TERM": "xterm"}, r"\x1b\[(\d;)*3[0-7]m", r"[34]8;"),
        ("mono", {"NO_COLOR": "1"}, r"\x1b\[[12]m", r"\x1b\[([0-9]+;)*([34]\d|9\d|[34]8)[;m]"),
    ],
)
def test_colours_are_those_the_terminal_has(
    tmp_path: Path, palette: str, environment: dict[str, str], wanted: str, unwanted: str
) -> None:
    write_run(tmp_path, "first", ENDED, metric_lines(500))
    screen = look(tmp_path, palette=palette, environment=environment)
    assert re.search(wanted, screen)
    assert not re.search(unwanted, screen)
    assert palette in PALETTES


def test_a_terminal_without_braille_gets_none(tmp_path: Path) -> None:
    write_run(tmp_path, "first", ENDED, metric_lines(500))
    screen = letters(look(tmp_path, ascii=True))
    assert screen.isascii()
    assert "loss" in screen


def test_names_bring_no_escapes(tmp_path: Path) -> None:
    hostile = tmp_path / "runs\x1b]0;owned\x07[@click=app.quit]"
    hostile.mkdir()
    state = {"status": "completed", "run_name": "\x1b[2J[/]\u202e"}
    lines = metric_lines(100).replace(b'"loss"', b'"\\u001b]0;owned\\u0007", "loss"')
    write_run(hostile, "first", state, metric_lines(100) + lines)
    screen = look(hostile)
    assert "\x1b" not in letters(screen)
    assert "\x07" not in screen


def test_what_is_drawn_is_called_approximate_while_it_is(tmp_path: Path) -> None:
    """A file too long to be read at once is skimmed, and the heading says so."""
    write_run(tmp_path, "first", ENDED, metric_lines(400_000))
    snapshot = Poller(tmp_path).look(lambda runs: runs[0].run_id)
    picture = first_look.draw(snapshot, ChartState(), "night", SIZE, ascii=False)
    assert picture is not None
    assert "approximate" in picture.text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_app_is_there_gives_the_terminal_back(
    tmp_path: Path, number: signal.Signals
) -> None:
    with RunWriter(tmp_path, name="live", max_steps=10) as writer:
        for step in range(1, 10):
            writer.log(step, loss=2.0 / step)
        terminal = Terminal("--runs-dir", str(tmp_path))
        try:
            terminal.read_until(b"opening")
            terminal.process.send_signal(number)
            code = terminal.wait()
        finally:
            terminal.close()
    assert code in (128 + number, 0)
    assert ALT_SCREEN_ON in terminal.output
    left = terminal.output.rpartition(ALT_SCREEN_ON)[2]
    assert CURSOR_ON in left
    assert ALT_SCREEN_OFF in left
    assert b"Traceback" not in terminal.output


def test_an_error_before_the_app_is_there_gives_the_terminal_back() -> None:
    written: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="no such thing"), first_look.shown("x", written.append):
        raise ValueError("no such thing")
    assert written[0].startswith("\x1b[?1049h")
    assert written[-1].endswith("\x1b[?1049l")
    assert signal.getsignal(signal.SIGINT) == before
