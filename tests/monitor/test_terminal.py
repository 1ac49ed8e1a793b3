"""The real command on a real pseudo-terminal: it leaves the terminal as it found it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from shared.run_writer import RunWriter
from tests import waiting
from tests.monitor.support import metric_lines, write_run

ALT_SCREEN_ON, ALT_SCREEN_OFF = b"\x1b[?1049h", b"\x1b[?1049l"
BRACKETED_PASTE = b"\x1b[?2004h"
MOUSE_OFF, CURSOR_ON = b"\x1b[?1000l", b"\x1b[?25h"


class Terminal:
    """`train-monitor` on a pseudo-terminal."""

    def __init__(
        self,
        *arguments: str,
        stderr: Path | None = None,
        size: tuple[int, int] = (80, 24),
        shell: str = "",
        **environment: str,
    ) -> None:
        """`shell` runs it: a script of `sh` with job control, in which "$@" is the command."""
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.settings = termios.tcgetattr(slave)
        self.slave = slave
        env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLORTERM")}
        env["XDG_CONFIG_HOME"] = "/nowhere/at/all"  # nobody's own settings, and none are written
        command = [sys.executable, "-m", "monitor", *arguments]
        if shell:  # opening the terminal makes it that of the session
            begin = 'exec 0<>"$0" >&0 2>&0; script=$1; shift; exec sh -mc "$script" sh "$@"'
            command = ["sh", "-c", begin, os.ttyname(slave), shell, *command]
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave if stderr is None else stderr.open("wb"),
            env={**env, "TERM": "xterm-256color", **environment},
            start_new_session=True,
        )
        self.output = b""

    def read_until(self, wanted: bytes, *, after: bytes = b"") -> None:
        """Until it has written `wanted`; behind the first `after`, if that is given."""
        deadline = time.monotonic() + waiting.SECONDS
        while wanted not in (self.output.partition(after)[2] if after else self.output):
            assert time.monotonic() < deadline, self.output[-2000:]
            self._read(0.1)

    def read_for(self, seconds: float) -> None:
        """Let it draw for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._read(0.05)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:
            return False
        self.output += data
        return bool(data)

    def wait(self) -> int:
        deadline = time.monotonic() + waiting.SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it did not end"
            self._read(0.05)
        while self._read(0.05):
            pass
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_run(tmp_path, "first", {"status": "completed", "run_name": "\x1b]0;owned\x07"},
              metric_lines(20))  # fmt: skip
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_terminal_clean(runs: Path, number: signal.Signals) -> None:
    terminal = Terminal("--runs-dir", str(runs))
    try:
        terminal.read_until(b"completed")
        assert ALT_SCREEN_ON in terminal.output
        terminal.process.send_signal(number)
        assert terminal.wait() == 128 + number
        left = terminal.output.rpartition(ALT_SCREEN_ON)[2]
        assert ALT_SCREEN_OFF in left
        assert CURSOR_ON in left
        assert MOUSE_OFF in left
        assert b"Traceback" not in terminal.output
        assert termios.tcgetattr(terminal.slave)[3] == terminal.settings[3]
    finally:
        terminal.close()


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_show_it_is_told_so(runs: Path, term: str) -> None:
    terminal = Terminal("--runs-dir", str(runs), size=(120, 40), TERM=term)
    try:
        assert terminal.wait() == 2
    finally:
        terminal.close()
    assert ALT_SCREEN_ON not in terminal.output
    assert b"train-monitor --json" in terminal.output
    assert b"trainer runs plot" in terminal.output
    assert terminal.output.count(b"\n") == 1


def test_a_suspended_monitor_gives_the_terminal_back_and_draws_again(runs: Path) -> None:
    terminal = Terminal("--runs-dir", str(runs))
    try:
        terminal.read_until(BRACKETED_PASTE)  # the app has taken over from the first look
        terminal.read_until(b"completed")
        terminal.process.send_signal(signal.SIGTSTP)
        terminal.read_until(ALT_SCREEN_OFF)
        _, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert termios.tcgetattr(terminal.slave)[3] == terminal.settings[3]
        terminal.output = b""
        terminal.process.send_signal(signal.SIGCONT)
        terminal.read_until(ALT_SCREEN_ON)
        terminal.read_until(b"completed")
        terminal.read_until(b"quit")
        os.write(terminal.master, b"\x1a")  # here is no shell that could continue it
        terminal.read_until(b"no shell to suspend to")
        os.write(terminal.master, b"q")
        assert terminal.wait() == 0
    finally:
        terminal.close()


def test_ctrl_z_returns_to_the_shell_and_fg_draws_again(runs: Path) -> None:
    shell = '"$@"; jobs; echo "gave back"; fg >/dev/null; echo "ended $?"'
    terminal = Terminal("--runs-dir", str(runs), shell=shell)
    try:
        terminal.read_until(b"quit")
        os.write(terminal.master, b"\x1a")
        terminal.read_until(b"gave back")
        screen, _, shells = terminal.output.rpartition(ALT_SCREEN_OFF)
        assert ALT_SCREEN_ON in screen
        assert b"Stopped" in shells
        terminal.read_until(ALT_SCREEN_ON, after=b"gave back")
        terminal.read_until(b"quit", after=b"gave back")
        os.write(terminal.master, b"q")
        terminal.read_until(b"ended 0")
        assert terminal.wait() == 0
    finally:
        terminal.close()


def test_a_hopeless_regular_expression_neither_hangs_nor_outlives_a_signal(tmp_path: Path) -> None:
    for i in range(40):
        write_run(tmp_path, f"{i}{'x' * 200}", {"status": "completed"})
    terminal = Terminal("--runs-dir", str(tmp_path))
    try:
        terminal.read_until(b"quit")
        os.write(terminal.master, b"//(x+x+)+y")
        terminal.read_until(b"takes too long")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait() == 128 + signal.SIGTERM
        assert ALT_SCREEN_OFF in terminal.output
    finally:
        terminal.close()


@pytest.mark.parametrize("inside", [[], ["--run", "first"]])
def test_a_folder_of_one_run_opens_it(runs: Path, inside: list[str]) -> None:
    write_run(runs, "second", {"status": "failed"}, metric_lines(3))
    terminal = Terminal("--runs-dir", str(runs / "first"), *inside)
    try:
        terminal.read_until(b"completed")
        terminal.read_until(b"quit")
        os.write(terminal.master, b"q")
        assert terminal.wait() == 0
    finally:
        terminal.close()


def test_a_terminal_that_hangs_up_ends_it(runs: Path) -> None:
    """Without a controlling terminal no SIGHUP comes: the monitor must notice by itself."""
    terminal = Terminal("--runs-dir", str(runs))
    terminal.read_until(b"completed")
    os.close(terminal.slave)
    os.close(terminal.master)
    try:
        assert terminal.process.wait(timeout=waiting.SECONDS) == 128 + signal.SIGHUP
    finally:
        terminal.process.kill()
        terminal.process.wait()


def test_quitting_tells_that_training_goes_on(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="live", max_steps=10) as writer:
        writer.log(1, loss=2.0)
        terminal = Terminal("--runs-dir", str(tmp_path))
        try:
            terminal.read_until(b"running")
            os.write(terminal.master, b"q")
            assert terminal.wait() == 0
            last = terminal.output.rpartition(ALT_SCREEN_OFF)[2]
            assert b"is still training" in last
            assert b"trainer stop " + writer.run.run_id.encode() in last
        finally:
            terminal.close()


def test_no_escape_from_a_file_reaches_the_wire(runs: Path) -> None:
    terminal = Terminal("--runs-dir", str(runs))
    try:
        terminal.read_until(b"]0;owned")
        os.write(terminal.master, b"dq")
        assert terminal.wait() == 0
        assert b"\x1b]0;owned" not in terminal.output
        assert b"goes on" not in terminal.output
    finally:
        terminal.close()


def colours_of(output: bytes) -> set[bytes]:
    """Every code that sets a colour, other than back to the terminal's own."""
    found: set[bytes] = set()
    for part in output.split(b"\x1b[")[1:]:
        codes, end, _ = part.partition(b"m")
        if not end or not codes.replace(b";", b"").isdigit():
            continue
        numbers = codes.split(b";")
        while numbers:
            number = int(numbers.pop(0))
            if number in (38, 48):
                found.add(b";".join((str(number).encode(), *numbers)))
                break
            if 30 <= number <= 37 or 40 <= number <= 47 or 90 <= number <= 107:
                found.add(str(number).encode())
    return found


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--no-color"], {"COLORTERM": "truecolor"}),
        ([], {"NO_COLOR": "1", "COLORTERM": "truecolor"}),
        ([], {"NO_COLOR": "1", "TERM": "xterm"}),
        (["--theme", "day"], {"NO_COLOR": "1"}),
    ],
)
def test_without_colours_there_are_none(
    runs: Path, arguments: list[str], environment: dict[str, str]
) -> None:
    assert colours_of(_shown(runs, arguments, environment)) == set()


def test_a_terminal_of_sixteen_colours_gets_its_own(runs: Path) -> None:
    found = colours_of(_shown(runs, [], {"TERM": "xterm"}))
    assert found
    assert not [code for code in found if code.startswith((b"38", b"48"))]


def test_the_theme_can_be_chosen(runs: Path) -> None:
    night, day = (
        colours_of(_shown(runs, ["--theme", name], {"COLORTERM": "truecolor"}))
        for name in ("night", "day")
    )
    assert night
    assert day
    assert not night & day


def _shown(runs: Path, arguments: list[str], environment: dict[str, str]) -> bytes:
    terminal = Terminal("--runs-dir", str(runs), *arguments, **environment)
    try:
        terminal.read_until(b"completed")
        terminal.read_until(b"quit")
        os.write(terminal.master, b"2q")
        assert terminal.wait() == 0
        return terminal.output
    finally:
        terminal.close()


def test_a_redirected_standard_error_is_told_of(runs: Path, tmp_path: Path) -> None:
    """Textual draws there: without it the screen would stand still."""
    terminal = Terminal("--runs-dir", str(runs), stderr=tmp_path / "errors")
    try:
        assert terminal.wait() == 2
    finally:
        terminal.close()
    assert ALT_SCREEN_ON not in terminal.output
    assert "remove the redirection" in (tmp_path / "errors").read_text()
