"""Writing into a run that has no trainer, while holding its lock."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from shared.control.launch import last_log_lines
from shared.control.requests import Request
from shared.errors import RunError
from shared.files import AppendLog, write_json
from shared.json_text import encode_line
from shared.ownership.lock import RunLock
from shared.run.directory import RunDirectory
from shared.run.records import ExitRecord, RunState
from shared.text import one_line

LAST_LINES = 20  # of the log, in an exit record


class RunRecord:
    """Holds a run from `with` to its end; `state` is what its file says.

    Entering raises LockHeldError when a process owns the run, OSError when it cannot be written.
    """

    def __init__(self, run: RunDirectory, lock: RunLock | None = None) -> None:
        """`lock` is the run's, when the caller has taken it already; it stays taken then."""
        self.run = run
        self.state = RunState()
        self._lock = lock or RunLock(run.lock_path)
        self._borrowed = lock is not None
        self._events: AppendLog | None = None

    def __enter__(self) -> Self:
        if not self._lock.held:
            self._lock.acquire()
        self.state = self.run.read_state() or RunState(run_id=self.run.run_id)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._events is not None:
            self._events.close()
        if not self._borrowed:
            self._lock.release()

    def event(self, kind: str, **fields: Any) -> None:
        """Append to `events.jsonl`. Raises RunError when it cannot be written."""
        if self._events is None:
            self._events = AppendLog(self.run.events_path)
        record = {
            "time": time.time(),
            "event": kind,
            "step": self.state.current_step,
            "attempt": self.state.attempt,
            **fields,
        }
        if not self._events.append(encode_line(record)):
            raise RunError(f"Cannot write in {one_line(self.run.events_path)}: is the disk full?")

    def update(self, **changes: Any) -> None:
        """Change fields of the state, durably. Raises OSError."""
        self.state = dataclasses.replace(self.state, **changes)
        write_json(self.run.state_path, self.state.to_json())

    def end(self, status: str, code: int, reason: str) -> None:
        """Record that the run ended, as a trainer would have done it. Raises OSError."""
        self.event("status", status=status, previous=self.state.status, code=code, reason=reason)
        record = ExitRecord(code, reason, tuple(last_log_lines(self.run, LAST_LINES) or ()))
        self.update(status=status, ended_at=time.time(), exit=record, eta_seconds=None)

    def queue(self, changes: Mapping[str, Any] | None = None) -> None:
        """Let the run wait for a daemon to start it. Raises OSError."""
        if self.state.status != "queued":
            self.event("status", status="queued", previous=self.state.status)
        self.update(
            **{
                "status": "queued",
                "supervised": True,
                "host": "",
                "pid": 0,
                "updated_at": time.time(),  # its place in the queue
                "ended_at": None,
                "exit": None,
                "eta_seconds": None,
                **(changes or {}),
            }
        )

    def answer(self, request: Request, *, ok: bool, message: str) -> None:
        """Answer a request by an event, then take its file away."""
        self.event(
            "answer",
            request=request.request_id,
            action=one_line(request.action),
            asked_by=one_line(request.asked_by),
            ok=ok,
            message=message,
        )
        request.remove()
