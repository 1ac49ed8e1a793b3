"""What a rank has in place of a writer: the run's state in memory, and nothing written.

One rank writes the run directory. The others follow the same course, so they know the same state.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from typing import Any

from shared.control.requests import Request
from shared.run.directory import RunDirectory
from shared.run.numbers import new_best, plain
from shared.run.records import RunState

LAST_LINES = 20


class SilentWriter:
    """The methods of a `RunWriter` that a training uses; `state` follows as if it were written.

    `last_lines` are what this rank would have said.
    """

    directory_problem = ""
    directory_lost_seconds = 0.0
    taken_over = False
    waiting_requests = 0
    step_seconds = None

    def __init__(self, run: RunDirectory, state: Mapping[str, Any]) -> None:
        self.run = run
        self.state = RunState.from_json(state)
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)

    def say(self, line: str) -> None:
        """Remember a line."""
        self.last_lines.append(line)

    def log(self, step: int, **metrics: Any) -> None:
        """Follow the best loss."""
        self.record(step, metrics)

    def record(self, step: int, metrics: dict[str, Any], **counters: Any) -> None:
        """The same."""
        step = plain(step)
        metrics = {key: plain(value) for key, value in metrics.items()}
        best = new_best(vars(self.state), step, metrics)
        self.update(current_step=step, **counters, **best)

    def update(self, *, durable: bool = False, **changes: Any) -> None:
        """Change fields of the state. Raises TypeError for one that does not exist."""
        self.state = dataclasses.replace(self.state, **changes)

    def set_status(self, status: str) -> None:
        """Follow the status."""
        self.update(status=status)

    def set_phase(self, phase: str, step: int) -> None:
        """Follow the phase."""
        self.update(current_phase=phase)

    def finish(self, status: str, code: int = 0, reason: str = "", *, final: bool = False) -> None:
        """Follow the end."""
        self.update(status=status)

    def take_requests(self) -> list[Request]:
        """Requests are served by the rank that writes."""
        return []

    def eta_seconds(self) -> None:
        """Nobody asks."""

    def event(self, kind: str, /, **fields: Any) -> None:
        """Written by another rank."""

    def answer(self, request: Request, *, ok: bool, message: str) -> None:
        """Answered by another rank."""

    def alarm(self, kind: str, message: str) -> None:
        """Raised by another rank."""

    def alarm_over(self, kind: str, message: str) -> None:
        """Ended by another rank."""

    def progress(self) -> None:
        """Seen by another rank."""
