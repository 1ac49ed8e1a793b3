"""A monitor on a terminal of its own, and what is to be seen on it.

Just enough of a terminal to tell where the letters are: Textual places the cursor, writes, and
colours; nothing scrolls.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.interleave import ROOT

_PARTS = re.compile(
    r"\x1b\[([0-9;:<=>?]*)([ -/]*[@-~])|\x1b[PX^_\]].*?(?:\x1b\\|\x07)|\x1b.|[^\x1b]+", re.S
)
_TORN = re.compile(r"\x1b(?:\[[0-9;:<=>? -/]*|[PX^_\]][^\x1b\x07]*)?\Z")
PATIENCE = 120.0  # seconds


class Letters:
    """The cells of a screen, without colours."""

    def __init__(self, width: int, height: int) -> None:
        self._rows = [[" "] * width for _ in range(height)]
        self._x = self._y = 0
        self._rest = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> None:
        """Take in what a program wrote."""
        text = self._rest + self._decode.decode(data)
        torn = _TORN.search(text)
        self._rest = text[torn.start() :] if torn else ""
        for part in _PARTS.finditer(text[: torn.start()] if torn else text):
            numbers, command = part.group(1), part.group(2)
            if command is not None:
                self._obey(numbers, command)
            elif not part.group().startswith("\x1b"):
                self._write(part.group())

    def _obey(self, numbers: str, command: str) -> None:
        if command in "Hf":
            row, _, column = numbers.partition(";")
            self._y, self._x = int(row or 1) - 1, int(column or 1) - 1
        elif command == "J":
            for row in self._rows:
                row[:] = " " * len(row)
        elif command == "K" and self._y < len(self._rows):
            row = self._rows[self._y]
            row[self._x :] = " " * len(row[self._x :])
        elif command == "C":
            self._x += int(numbers or 1)

    def _write(self, text: str) -> None:
        for letter in text:
            if letter == "\r":
                self._x = 0
            elif letter == "\n":
                self._y += 1
            elif letter >= " ":
                if self._y < len(self._rows) and self._x < len(self._rows[self._y]):
                    self._rows[self._y][self._x] = letter
                self._x += 1

    @property
    def text(self) -> str:
        """What is to be seen."""
        return "\n".join("".join(row) for row in self._rows)


#: Runs the monitor where the kernel tells nothing of changes, as on a network disk.
DEAF = """
import sys
from monitor.data.hints import Hints
Hints.start = lambda self: None
from monitor.__main__ import main
sys.exit(main())
"""


class Terminal:
    """`train-monitor` in a process of its own, on a terminal of `width` by `height`.

    `program` is another command to run there, with variables of its environment of its own.
    """

    def __init__(
        self,
        runs_dir: Path,
        *arguments: str,
        width: int = 120,
        height: int = 40,
        deaf: bool = False,
        program: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.letters = Letters(width, height)
        self.bytes = 0
        self._fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        ours = ["-c", DEAF] if deaf else ["-m", "monitor"]
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            program or [sys.executable, *ours, "--runs-dir", str(runs_dir), *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            # A person's own settings must not change the figures.
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "XDG_CONFIG_HOME": str(runs_dir / ".config"),
                **(environment or {}),
            },
            start_new_session=True,
        )
        os.close(slave)

    def press(self, key: str) -> None:
        """Type."""
        os.write(self._fd, key.encode())

    def read(self, seconds: float) -> bool:
        """Take what comes within so many seconds, at once when something does.

        Raises RuntimeError when the monitor has ended.
        """
        if not select.select([self._fd], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:
            data = b""
        if not data:
            raise RuntimeError(f"the monitor ended; its screen:\n{self.letters.text}")
        self.bytes += len(data)
        self.letters.feed(data)
        return True

    def until(self, seen: Callable[[str], bool], patience: float = PATIENCE) -> float:
        """Seconds since the start when `seen` first held for the text on the screen.

        Raises RuntimeError when it does not come to that.
        """
        deadline = time.perf_counter() + patience
        while True:
            if seen(self.letters.text):
                return time.perf_counter() - self.began
            if time.perf_counter() > deadline:
                raise RuntimeError(f"it never came to the screen:\n{self.letters.text}")
            self.read(deadline - time.perf_counter())

    def steadily(self, seen: Callable[[str], bool], seconds: float = 0.5) -> float:
        """As `until`, for what goes on to hold: a screen that is half redrawn proves nothing."""
        while True:
            since = self.until(seen)
            end = time.perf_counter() + seconds
            while seen(self.letters.text) and (left := end - time.perf_counter()) > 0:
                self.read(left)
            if seen(self.letters.text):
                return since

    def rest(self, seconds: float) -> None:
        """Let the monitor work."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            self.read(left)

    # -- what it costs -------------------------------------------------------------------

    def cpu_seconds(self) -> float:
        """Processor time used so far, its helpers' included."""
        return sum(used(pid) for pid in self._pids())

    def memory(self) -> float:
        """Megabytes of resident memory now, its helpers' included."""
        return sum(_resident(pid) for pid in self._pids()) / 1e6

    def _pids(self) -> list[str]:
        """It and its children."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task").glob("*/children")
        pids = [str(pid)]
        with contextlib.suppress(OSError):
            pids += [child for path in children for child in path.read_text().split()]
        return pids

    @contextlib.contextmanager
    def watched_memory(self) -> Iterator[list[float]]:
        """While entered, looks at the memory all the time; the most so far is the list's last."""
        most, over = [0.0], threading.Event()

        def look() -> None:
            while not over.wait(0.02):
                most.append(max(most[-1], self.memory()))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield most
        finally:
            over.set()
            thread.join()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._fd)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def used(pid: str) -> float:
    """Seconds of processor time; 0 for a process that has gone."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _resident(pid: str) -> int:
    """Bytes; 0 for a process that has gone."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        return int(next(x for x in lines if x.startswith("VmRSS:")).split()[1]) * 1024
    return 0


def has_curve(text: str) -> bool:
    """Whether a curve is drawn: some of its dots in several columns."""
    return sum("\u2801" <= letter <= "\u28ff" for letter in text) >= 20


def p95(seconds: Sequence[float]) -> float:
    """What one in twenty takes longer than."""
    return sorted(seconds)[min(len(seconds) - 1, int(0.95 * len(seconds)))]
