"""A fault inside the running app: the terminal is given back, and a few lines say what it was."""

from __future__ import annotations

import os
import termios
from pathlib import Path

import pytest

from monitor.leaving import fault
from tests.monitor.support import metric_lines, write_run
from tests.monitor.test_terminal import (
    ALT_SCREEN_OFF,
    ALT_SCREEN_ON,
    CURSOR_ON,
    MOUSE_OFF,
    Terminal,
)

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
