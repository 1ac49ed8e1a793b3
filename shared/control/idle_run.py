"""Acting for a run without a trainer, while holding its lock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from shared.control.client import Answer, ask
from shared.control.requests import Request, answer_fields
from shared.control.waiting import Patience
from shared.ownership.health import observe
from shared.ownership.lock import LockHeldError, RunLock
from shared.run.directory import RunDirectory
from shared.run.events import EventLog
from shared.run.log import last_log_lines
from shared.run.records import ExitRecord, RunState
from shared.run.state import StateFile


class IdleRun:
    """Holds a run from `with` to its end, and writes its state and events.

    Entering raises LockHeldError when a process owns the run, OSError when it cannot be written.
    """

    def __init__(self, run: RunDirectory, lock: RunLock | None = None) -> None:
        """`lock` is the run's, if the caller holds it already; it stays held."""
        self.run = run
        self._lock = lock or RunLock(run.lock_path)
        self._borrowed = lock is not None
        self._file: StateFile | None = None

    def __enter__(self) -> Self:
        if not self._lock.held:
            self._lock.acquire()
        self._file = StateFile(self.run)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if not self._borrowed:
            self._lock.release()

    @property
    def _state_file(self) -> StateFile:
        if self._file is None:
            raise RuntimeError("IdleRun is used before it is entered")
        return self._file

    @property
    def state(self) -> RunState:
        """The state as it is in the file."""
        return self._state_file.state

    @property
    def has_state(self) -> bool:
        """Whether there was a readable state."""
        return self._state_file.found

    def event(self, kind: str, /, **fields: Any) -> None:
        """Append an event. Raises OSError when it cannot be written: nobody would retry."""
        log = EventLog(self.run, self._state_file)
        try:
            log.append(kind, **fields)
        finally:
            log.close()

    def update(self, **changes: Any) -> None:
        """Change fields of the state, durably. Raises OSError."""
        self._state_file.update(**changes)

    def end(self, status: str, code: int, reason: str) -> None:
        """Record that the run ended, as a trainer would have done. Raises OSError."""
        self.event("status", status=status, previous=self.state.status, code=code, reason=reason)
        record = ExitRecord(code, reason, tuple(last_log_lines(self.run) or ()))
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
        """Answer a request with an event, then remove its file. Raises OSError."""
        self.event("answer", **answer_fields(request, ok=ok, message=message))
        request.remove()


@contextlib.contextmanager
def hold_if_idle(run: RunDirectory) -> Iterator[IdleRun | None]:
    """The run, held until the end of the block; None if another process owns it.

    Raises OSError when the run cannot be written.
    """
    if observe(run, run.read_state() or RunState()).alive:
        yield None
        return
    with contextlib.ExitStack() as held:
        try:
            idle: IdleRun | None = held.enter_context(IdleRun(run))
        except LockHeldError:
            idle = None
        yield idle


def act_or_ask(
    run: RunDirectory,
    action: str,
    arguments: Mapping[str, Any],
    act: Callable[[IdleRun], str],
    *,
    label: str = "",
    patience: Patience | None = None,
) -> Answer | None:
    """Do something for a run: here with `act` if nobody owns it, else by asking its owner.

    The request is withdrawn if nobody answers. None when the pause of `patience` stopped the wait.
    Raises OSError from the run's files, RunError when nobody answers, and whatever `act` raises.
    """
    with hold_if_idle(run) as idle:
        if idle is not None:
            return Answer(ok=True, message=act(idle))
    asked = ask(run, action, arguments, label=label, patience=patience)
    return asked.wait(withdraw=True)
