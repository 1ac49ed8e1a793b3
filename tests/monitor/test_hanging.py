"""A disk that does not answer, and Ctrl-C in the middle of the start: the monitor ends, quietly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from monitor.data.poller import read_once
from monitor.settings import SettingsFile
from shared.run.directory import RunDirectory
from tests.monitor.support import metric_lines, write_run
from tests.monitor.test_terminal import ALT_SCREEN_OFF, Terminal
from tests.waiting import SECONDS, until

ROOT = Path(__file__).parents[2]

T = TypeVar("T")

#: Run by the interpreter at its start: files of a name, once there is the file `hang`, and imports
#: of a name never answer.
HANGING = r"""
import os
import sys

def hang():
    with open(os.environ["MARK"], "w"):
        pass
    os.read(os.open(os.environ["PIPE"], os.O_RDWR), 1)

class Imports:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == os.environ.get("HANGING_IMPORT"):
            hang()

sys.meta_path.insert(0, Imports)

if "HANGING_FILE" in os.environ:
    import pathlib

    opened = pathlib.Path.open

    def open_or_hang(self, *args, **more):
        if self.name == os.environ["HANGING_FILE"] and os.path.exists(os.environ["HANG"]):
            hang()
        return opened(self, *args, **more)

    pathlib.Path.open = open_or_hang
"""


class Disk:
    """A place for runs whose disk stops to answer."""

    def __init__(self, folder: Path) -> None:
        self.runs, self.mark, self.hang = folder / "runs", folder / "mark", folder / "hang"
        (folder / "hook").mkdir()
        (folder / "hook" / "sitecustomize.py").write_text(HANGING)
        os.mkfifo(folder / "pipe")
        self.run = write_run(self.runs, "first", {"status": "completed"}, metric_lines(20))
        (self.run / "train.log").write_text("step 1\n")
        self.environment = {
            "PYTHONPATH": os.pathsep.join((str(folder / "hook"), str(ROOT))),
            "MARK": str(self.mark),
            "HANG": str(self.hang),
            "PIPE": str(folder / "pipe"),
        }

    def terminal(self, **environment: str) -> Terminal:
        return Terminal("--runs-dir", str(self.runs), **self.environment, **environment)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.mark.parametrize("leave", [signal.SIGTERM, b"q"], ids=str)
def test_a_disk_that_stops_to_answer_keeps_nobody(
    disk: Disk, leave: signal.Signals | bytes
) -> None:
    terminal = disk.terminal(HANGING_FILE="train.log")
    try:
        terminal.read_until(b"completed")
        terminal.read_until(b"quit")
        disk.hang.touch()
        (disk.run / "train.log").write_text("step 1\nstep 2\n")
        until(lambda: terminal.read_for(0.05) or disk.mark.exists())
        if isinstance(leave, bytes):
            os.write(terminal.master, leave)
        else:
            terminal.process.send_signal(leave)
        assert terminal.wait() == (0 if isinstance(leave, bytes) else 128 + leave)
        assert ALT_SCREEN_OFF in terminal.output
        assert b"Traceback" not in terminal.output
    finally:
        terminal.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_disk_that_never_answered_keeps_nobody(disk: Disk, number: signal.Signals) -> None:
    disk.hang.touch()
    terminal = disk.terminal(HANGING_FILE="run_state.json")
    try:
        until(disk.mark.exists)
        terminal.process.send_signal(number)
        assert terminal.wait() in (-number, 128 + number)
        assert b"Traceback" not in terminal.output
        assert b"KeyboardInterrupt" not in terminal.output
    finally:
        terminal.close()


@pytest.mark.parametrize("module", ["monitor.data.poller", "monitor.widgets"])
def test_ctrl_c_while_it_starts_is_quiet(disk: Disk, module: str) -> None:
    terminal = disk.terminal(HANGING_IMPORT=module)
    try:
        until(disk.mark.exists)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() in (-signal.SIGINT, 128 + signal.SIGINT)
        said = terminal.output
        assert b"Traceback" not in said
        assert b"KeyboardInterrupt" not in said
        if ALT_SCREEN_OFF not in said:
            assert not said.strip(), "nothing was shown yet"
    finally:
        terminal.close()


def test_ctrl_c_is_quiet_before_anything_of_ours_is_imported(disk: Disk) -> None:
    begun = subprocess.Popen(
        [sys.executable, "-c", "import sys; from monitor.start import main; sys.exit(main())"],
        env={**os.environ, **disk.environment, "HANGING_IMPORT": "argparse"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        until(disk.mark.exists)
        begun.send_signal(signal.SIGINT)
        said, _ = begun.communicate(timeout=SECONDS)
        assert (said, begun.returncode) == (b"", -signal.SIGINT)
    finally:
        begun.kill()
        begun.wait()


def in_time(work: Callable[[], T]) -> T:
    """What `work` returns, unless it waits for ever."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(SECONDS)
    return found[0]


def test_settings_that_are_a_pipe_are_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "settings.yaml")
    file = in_time(lambda: SettingsFile(tmp_path / "settings.yaml"))
    assert "cannot be read" in file.problem


def test_pipes_in_a_run_are_not_waited_for(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "piped", {"status": "completed"}, metric_lines(3))
    for name in ("events.jsonl", "train.log", "config.yaml", "labels.json", "metrics.jsonl"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    snapshot = in_time(lambda: read_once(tmp_path, RunDirectory(folder)))
    assert [run.status for run in snapshot.runs] == ["completed"]
    assert snapshot.detail is not None
    assert len(snapshot.detail.loss) == 0
