"""A child at work: its output goes into the pipeline's log, and requests reach it meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from shared.run.directory import RunDirectory
from shared.run.tail import Tailer
from shared.run_writer import RunWriter
from shared.text import one_line
from trainer.pipeline.children import Child
from trainer.pipeline.steering import Steering

LOOK = 0.1  # seconds between two looks
KEPT = 200  # lines of a command's output that are kept
#: `tail FILE | grep PHASE` shows ten lines: one of them says which phase it is.
LINES_BETWEEN = 8
_LONGEST = 2000  # characters of a line


class Following:
    """Relays the output of children into a pipeline's log, and waits for them."""

    def __init__(
        self,
        writer: RunWriter,
        steering: Steering,
        *,
        look: float = LOOK,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._writer = writer
        self._steering = steering
        self._look = look
        self._sleep = sleep
        self._since_banner = 0
        self.phase: Callable[[], str] = str  # the line that says where the pipeline is

    def say(self, line: str) -> None:
        """Write a line, and now and then which phase it belongs to."""
        self._writer.say(line)
        if "PHASE" in line:
            self._since_banner = 0
            return
        self._since_banner += 1
        # Not within a table or a chart.
        due = self._since_banner >= LINES_BETWEEN and line.startswith("[")
        if due and (phase := self.phase()):
            self._writer.say(phase)
            self._since_banner = 0

    def pause(self) -> None:
        """Wait for a moment; the run of the pipeline is not stalled meanwhile."""
        self._writer.progress()
        self._sleep(self._look)

    def end_of(
        self,
        child: Child,
        output: Tailer,
        *,
        run: RunDirectory | None = None,
        until: Callable[[], bool] = lambda: False,
        lines: deque[str] | None = None,
    ) -> int | None:
        """Wait until `child` has ended, or until `until`: the exit code, None in the second case.

        What is written to `output` meanwhile goes into the log, and into `lines`. `run` is the one
        that the child trains.
        """
        while True:
            code = child.poll()
            self._relay(output, lines)
            if code is not None:
                self._steering.ended()
                return code
            if until():
                return None
            self._steering.look(child, run)
            self.pause()

    def _relay(self, output: Tailer, lines: deque[str] | None) -> None:
        more = True
        while more:
            chunk = output.read()
            more = chunk.more
            for line in chunk.lines.decode("utf-8", "replace").splitlines():
                # A bar that was drawn again and again: its last state.
                text = one_line(line.rpartition("\r")[2] or line, _LONGEST).rstrip()
                if text:
                    self.say(text)
                    if lines is not None:
                        lines.append(text)


def at_its_end(path: Path) -> Tailer:
    """Reads what is appended to a file from now on."""
    tailer = Tailer(path)
    while tailer.read().more:
        pass
    return tailer
