"""Alarms of a run: something is wrong, and training continues."""

from __future__ import annotations

import threading
from collections.abc import Callable

from shared.run.events import EventLog
from shared.run.log import RunLog


class Alarms:
    """Reports the start and the end of each kind of alarm once. Works from any thread."""

    def __init__(self, events: EventLog, log: RunLog, show: Callable[[str], None]) -> None:
        """`show` gets the messages of all present alarms in one sentence, or an empty string."""
        self._events, self._log, self._show = events, log, show
        self._present: dict[str, str] = {}
        self._guard = threading.Lock()

    def start(self, kind: str, message: str) -> None:
        """Something is wrong. A repeated call only changes the message that is shown."""
        with self._guard:
            before = self._present.get(kind)
            self._present[kind] = message
        if before is None:
            self._events.append("alarm", alarm=kind, message=message)
            self._log.say(f"[ALARM] {message}")
        if before != message:
            self._show_present()

    def end(self, kind: str, message: str) -> None:
        """It is over. Does nothing if there was no such alarm."""
        with self._guard:
            before = self._present.pop(kind, None)
        if before is not None:
            self._show_present()
            self._events.append("alarm_over", alarm=kind, message=message)
            self._log.say(f"[INFO] {message}")

    def _show_present(self) -> None:
        with self._guard:
            shown = "; ".join(self._present.values())
        self._show(shown)
