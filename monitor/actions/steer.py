"""Steering a run: asking its trainer or a daemon, or starting one here.

Everything here says in a sentence what became true, or raises UserError saying why not. Functions
that wait are called from a thread of their own; `give_up(seconds)` sleeps and says whether to stop
waiting, and then their answer is empty.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from monitor.data.scanner import RunScanner
from monitor.data.views import RESUMABLE, RunView
from shared.checkpoints.prune import event_teller
from shared.control.daemons import DaemonView, find_daemons, watching
from shared.control.launch import last_log_lines, resume_detached, wait_until_running
from shared.control.requests import submit
from shared.errors import RunError, UserError
from shared.files import read_json, write_json
from shared.json_text import Json
from shared.ownership.health import observe
from shared.ownership.lock import RunLock
from shared.ownership.process import host_name
from shared.run.directory import RunDirectory
from shared.run.record_lines import parse_lines
from shared.run.records import ENDED_STATUSES, ExitRecord, RunState
from shared.run.tail import Tailer
from shared.text import one_line

ANSWER_TIMEOUT = 120.0  # seconds: a step of a large model, then the saving of a checkpoint
_LOOK = 0.1  # seconds between looks for the answer
_GONE = 15.0  # seconds after which nobody is waited for that is not there
_LAST_LINES = 20  # of the log, in an exit record
_DAEMON = "trainer daemon --runs-dir {} --detach"

GiveUp = Callable[[float], bool]


class Launcher(Protocol):
    """Starts a trainer on a run and returns its status once it is at work."""

    def __call__(self, run: RunDirectory) -> str:
        """Raises UserError when it does not come to work."""


def launch(run: RunDirectory) -> str:
    """Resume `run` in a process of its own; returns its status when that has become true."""
    return wait_until_running(run, resume_detached(run))


# -- resuming ----------------------------------------------------------------------------------


def why_not_resumable(view: RunView) -> str:
    """Why `view` cannot be resumed, as a sentence; empty if it can."""
    if view.alive:
        return (
            f"{view.label} is {view.status} (process {view.pid} on {view.host}); nothing to resume."
        )
    if view.status == "completed":
        return f"{view.label} is completed; go on with `trainer resume RUN --max-steps N`."
    if view.status not in RESUMABLE | {"queued"}:
        return f"{view.label} is {view.status}; only a run that has ended can be resumed."
    return ""


def resume(view: RunView, launcher: Launcher = launch, give_up: GiveUp | None = None) -> str:
    """Start the trainer of an ended run again: by a daemon where one watches, else from here.

    Raises UserError when the run is alive, completed or at home on another host, RunError when the
    trainer does not start.
    """
    view = _look_again(view)
    reason = why_not_resumable(view)
    if reason:
        raise UserError(reason)
    run = RunDirectory(view.path)
    daemons = watching(view.path.parent)
    if view.status == "queued":
        return _told_of_queue(view, daemons)
    if daemons:
        return _resume_by_daemon(view, give_up)
    host = (run.read_state() or RunState()).host
    if host not in ("", host_name()):
        command = _DAEMON.format(one_line(view.path.parent))
        raise UserError(
            f"{view.label} was last at work on {one_line(host, 80)}, and no daemon watches it: "
            f"start one there ({command}) and R reaches it, or resume it there by hand."
        )
    status = launcher(run)
    return f"{view.label} is {one_line(status, 20)} again."


def _told_of_queue(view: RunView, daemons: list[DaemonView]) -> str:
    """What a queued run waits for. Raises UserError when that is nothing."""
    if not daemons:
        command = _DAEMON.format(one_line(view.path.parent))
        raise UserError(f"{view.label} is queued, and no daemon is there to start it: {command}")
    queue = next((d.queue for d in daemons if view.run_id in d.queue), ())
    before = queue.index(view.run_id) if queue else 0
    behind = f" behind {before} other{'s' if before > 1 else ''}" if before else ""
    return f"{view.label} is queued already{behind}; it starts when there is room."


def _resume_by_daemon(view: RunView, give_up: GiveUp | None) -> str:
    request_id, tailer = _leave(view, "resume")
    wait = _Wait(view, request_id, tailer, ANSWER_TIMEOUT, give_up, by_daemon=True)
    for event in wait.events():
        if event is not None:
            return _sentence(view, event)
        # A first step may take minutes; that the trainer works is true before it answers.
        state = wait.state
        if state.attempt > view.attempt and state.status == "running" and wait.alive:
            return f"{view.label} is running again (attempt {state.attempt})."
    return ""


def _look_again(view: RunView) -> RunView:
    """`view` as it is now: between the last snapshot and the key somebody may have acted."""
    views = RunScanner(view.path.parent, time.time).scan()
    found = next((v for v in views if v.run_id == view.run_id), None)
    return view if found is None else dataclasses.replace(found, label=view.label)


# -- asking ------------------------------------------------------------------------------------


def why_no_request(view: RunView, action: str) -> str:
    """Why the trainer of `view` cannot be asked for `action`; empty if it can."""
    if not view.alive:
        return f"{view.label} is {view.status}: no trainer is there to {action} it."
    if view.status == "stopping" and action != "checkpoint":
        return f"{view.label} is already stopping."
    return ""


def ask(
    view: RunView,
    action: str,
    arguments: Mapping[str, Any] | None = None,
    give_up: GiveUp | None = None,
) -> str:
    """Ask the trainer of `view` for `action`; what it answered once it has done it.

    Raises UserError when nobody is there to answer, RunError when it refuses.
    """
    return wait_for_answer(view, *request(view, action, arguments), give_up=give_up)


def request(
    view: RunView, action: str, arguments: Mapping[str, Any] | None = None
) -> tuple[str, Tailer]:
    """Ask the trainer for `action`; returns the request's id and where its answer will appear.

    Raises UserError when nobody is there to answer or the request cannot be written.
    """
    reason = why_no_request(view, action)
    if reason:
        raise UserError(reason)
    return _leave(view, action, arguments)


def _leave(
    view: RunView, action: str, arguments: Mapping[str, Any] | None = None
) -> tuple[str, Tailer]:
    run = RunDirectory(view.path)
    tailer = Tailer(run.events_path)
    while tailer.read().more:
        pass
    try:
        return submit(run.control, action, arguments), tailer
    except OSError as error:
        raise RunError(
            f"Cannot leave a request in {one_line(run.control)}: {error.strerror}; "
            "only the user who trains may steer."
        ) from error


def wait_for_answer(
    view: RunView,
    request_id: str,
    tailer: Tailer,
    timeout: float = ANSWER_TIMEOUT,
    give_up: GiveUp | None = None,
    *,
    by_daemon: bool = False,
) -> str:
    """What was answered to `request_id`.

    `by_daemon`: a daemon may answer for a run without a trainer. Raises RunError when it is
    refused, when nobody is there any more, or nobody answers within `timeout` seconds.
    """
    wait = _Wait(view, request_id, tailer, timeout, give_up, by_daemon=by_daemon)
    for event in wait.events():
        if event is not None:
            return _sentence(view, event)
    return ""


def _sentence(view: RunView, event: Json) -> str:
    message = one_line(event.get("message") or "done", 300)
    if event.get("ok") is not True:
        raise RunError(f"{view.label}: {message}")
    return f"{view.label}: {message}"


def withdraw(view: RunView, request_id: str) -> None:
    """Take a request away that nobody has served."""
    with contextlib.suppress(OSError):
        (RunDirectory(view.path).control / f"{request_id}.json").unlink()


class _Wait:
    """The waiting for one answer. `state` and `alive` are the run's at the last look."""

    def __init__(
        self,
        view: RunView,
        request_id: str,
        tailer: Tailer,
        timeout: float,
        give_up: GiveUp | None,
        *,
        by_daemon: bool,
    ) -> None:
        self._view, self._request_id, self._tailer = view, request_id, tailer
        self._timeout, self._give_up, self._by_daemon = timeout, give_up, by_daemon
        self._run = RunDirectory(view.path)
        self.state, self.alive = RunState(), True

    def events(self) -> Iterator[Json | None]:
        """The answer when it is there, None after every look without it; the end: given up.

        Raises RunError.
        """
        began = time.monotonic()
        gone_since: float | None = None
        ended = False
        while True:
            answer = self._answer()
            if answer is not None:
                yield answer
                return
            if ended:
                raise RunError(f"{self._view.label} ended without an answer.")
            now = time.monotonic()
            if now - began > self._timeout:
                raise RunError(f"{self._view.label} has not answered within {self._timeout:.0f} s.")
            self.state = self._run.read_state() or RunState()
            self.alive = observe(self._run, self.state).alive
            if not self._by_daemon:
                # An ended run gets one more look, for the answer written just before its end.
                ended = self.state.status in ENDED_STATUSES or not self.alive
            elif self.alive or watching(self._view.path.parent):
                gone_since = None
            else:
                gone_since = gone_since or now
                ended = now - gone_since > _GONE
            yield None
            if self._give_up is None:
                time.sleep(_LOOK)
            elif self._give_up(_LOOK):
                return

    def _answer(self) -> Json | None:
        records, _ = parse_lines(self._tailer.read().lines)
        for record in records:
            if record.get("event") == "answer" and record.get("request") == self._request_id:
                return record
        return None


# -- stopping ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Question:
    """What a person is asked before something is done, and what follows from it."""

    question: str
    consequence: str


def stop_question(view: RunView) -> Question:
    """What to ask before `view` is stopped. Raises UserError when there is nothing to stop.

    Whether a daemon would start a dead run again is found out by `stop`, which may wait for a disk.
    """
    if view.alive:
        reason = why_no_request(view, "stop")
        if reason:
            raise UserError(reason)
        return Question(f"Stop {view.label}?", "It saves a checkpoint and ends. R resumes it.")
    if view.status == "queued":
        return Question(
            f"Take {view.label} out of the queue?", "It is not started. R resumes it later."
        )
    if view.supervised and view.status in RESUMABLE:
        return Question(
            f"Give up the restart of {view.label}?",
            "If a daemon is about to start it again, it does not. R resumes it.",
        )
    raise UserError(why_no_request(view, "stop"))


def stop(view: RunView, give_up: GiveUp | None = None) -> str:
    """Let a run save and end, or see to it that one that waits is not started.

    Returns when it has ended. Raises UserError when nothing of it is at work or waits.
    """
    view = _look_again(view)
    run = RunDirectory(view.path)
    if not view.alive:
        return _cancel(view, run, give_up)
    # A daemon that serves a run holds its lock for a moment, and looks like a trainer.
    by_daemon = bool(watching(view.path.parent))
    try:
        answer = wait_for_answer(view, *request(view, "stop"), give_up=give_up, by_daemon=by_daemon)
    except RunError:
        # It died in the same moment, and a daemon would start it again.
        if not _waits(view, run):
            raise
        return _cancel(_look_again(view), run, give_up)
    return _until_ended(view, run, give_up) or answer if answer else ""


def _until_ended(view: RunView, run: RunDirectory, give_up: GiveUp | None) -> str:
    """How the run has ended, once its trainer has saved and gone; empty if that takes too long."""
    deadline = time.monotonic() + ANSWER_TIMEOUT
    while time.monotonic() < deadline:
        state = run.read_state() or RunState()
        if not observe(run, state).alive:
            return f"{view.label} is {one_line(state.status, 20)} at step {state.current_step:,}."
        if give_up is None:
            time.sleep(_LOOK)
        elif give_up(_LOOK):
            break
    return ""


def _cancel(view: RunView, run: RunDirectory, give_up: GiveUp | None) -> str:
    """Take a run that waits out of the hands of whoever would start it."""
    if _waits(view, run):
        if watching(view.path.parent):
            return wait_for_answer(view, *_leave(view, "stop"), give_up=give_up, by_daemon=True)
        return _cancel_here(view, run)
    state = run.read_state() or RunState()
    if state.status == "queued":
        raise UserError(f"{view.label} is about to be started by {one_line(state.host) or 'hand'}.")
    raise UserError(why_no_request(view, "stop"))


def _waits(view: RunView, run: RunDirectory) -> bool:
    """Whether a daemon, or the successor of one that is gone, would start the run."""
    state = run.read_state() or RunState()
    if state.status in ("completed", "cancelled"):
        return False
    if state.status == "queued":
        return state.supervised
    for daemon in find_daemons(view.path.parent):
        care = (read_json(daemon.directory.care_path) or {}).get("runs")
        if isinstance(care, dict) and view.run_id in care:
            return True
        if daemon.alive and view.run_id in daemon.runs:
            return True
    return False


def _cancel_here(view: RunView, run: RunDirectory) -> str:
    """Nobody is there who would start it: its record says that nobody shall."""
    reason = "taken out of the queue by train-monitor"
    lock = RunLock(run.lock_path)
    try:
        lock.acquire()
        try:
            _end(run, reason)
        finally:
            lock.release()
    except OSError as error:
        raise RunError(f"{view.label} cannot be changed: {error.strerror}.") from error
    return f"{view.label} is cancelled: {reason}."


def _end(run: RunDirectory, reason: str) -> None:
    """Record that the run ended, as a trainer would have done it. For the holder of its lock."""
    state = run.read_state() or RunState()
    event_teller(run)("status", status="cancelled", previous=state.status, code=0, reason=reason)
    record = ExitRecord(0, reason, tuple(last_log_lines(run, _LAST_LINES) or ()))
    ended = dataclasses.replace(
        state, status="cancelled", ended_at=time.time(), exit=record, eta_seconds=None
    )
    # What a newer program has written there stays.
    write_json(run.state_path, {**(read_json(run.state_path) or {}), **ended.to_json()})
