"""A fault inside the running app: the terminal is given back, and a few lines say what it was."""

from __future__ import annotations

import os
import signal
import termios
import threading
from pathlib import Path

import pytest

from monitor.leaving import Leaving, farewell, fault
from tests.monitor.support import metric_lines, view, write_run
from tests.monitor.test_terminal import (
    ALT_SCREEN_OFF,
    ALT_SCREEN_ON,
    CURSOR_ON,
    MOUSE_OFF,
    Terminal,
)
from tests.waiting import SECONDS

#: Run by the interpreter at its start: a page that cannot be drawn, and one that cannot be shown.
FAULTY = r"""
import os
if os.environ.get("FAULTY"):
    from monitor.data.poller import Poller
    from monitor.widgets.run_pages import LogPage

    def draw(self, width, height):
        secret = "what a file says"
        raise ZeroDivisionError("a\x1b]0;owned\x07 fault")

    LogPage.draw = draw
"""


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH."""
    folder = tmp_path / "faulty"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(FAULTY)
    return folder


def test_a_page_that_cannot_be_drawn(tmp_path: Path, faulty: Path) -> None:
    write_run(tmp_path / "runs", "first", {"status": "completed"}, metric_lines(20))
    root = Path(__file__).parents[2]
    terminal = Terminal(
        "--runs-dir",
        str(tmp_path / "runs"),
        PYTHONPATH=os.pathsep.join((str(faulty), str(root))),
        FAULTY="1",
    )
    try:
        terminal.read_until(b"completed")
        terminal.read_until(b"quit")
        os.write(terminal.master, b"6")
        assert terminal.wait() == 1
        left = terminal.output.rpartition(ALT_SCREEN_ON)[2]
        assert ALT_SCREEN_OFF in left
        assert CURSOR_ON in left
        assert MOUSE_OFF in left
        assert termios.tcgetattr(terminal.slave)[3] == terminal.settings[3]
        told = terminal.output.rpartition(ALT_SCREEN_OFF)[2]
        assert b"train-monitor: ZeroDivisionError: a" in told
        assert b"training continues" in told
        assert b"what a file says" not in terminal.output
        assert b"\x1b]0;owned" not in terminal.output
        assert b"Traceback" not in told
        assert told.count(b"\n") <= 8
    finally:
        terminal.close()


def test_a_fault_is_told_in_a_few_lines() -> None:
    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        fault(None)  # type: ignore[arg-type]  # our own line, and the one that fails

    try:
        deep(50)
    except AttributeError as error:
        told = fault(error)
    assert told[0].startswith("train-monitor: AttributeError: ")
    assert told[1].startswith("  monitor/leaving.py:")
    assert len(told) == 3


def test_an_exit_that_hangs_is_cut_short() -> None:
    left: list[int] = []
    killed: list[int] = []
    over = threading.Event()

    def kill(code: int) -> None:
        killed.append(code)
        over.set()

    leaving = Leaving(left.append, grace=0.0, kill=kill)
    assert not leaving.begun.is_set()
    leaving.terminate(signal.SIGHUP)
    assert leaving.begun.is_set()
    assert left == [128 + signal.SIGHUP]
    assert over.wait(SECONDS)
    assert killed == left


def test_the_farewell_names_what_still_trains() -> None:
    here, there = Path("runs"), Path("/data/my runs")
    ended, one, two = view("a", alive=False), view("b"), view("c")
    assert farewell((ended,), here) == ""
    assert farewell((ended, one), here) == (
        "b is still training. Watch again: train-monitor   Stop: trainer stop b"
    )
    told = farewell((one, two), there)
    assert told.startswith("2 runs are still training. ")
    assert told.endswith("Stop: trainer stop RUN --runs-dir '/data/my runs'")
