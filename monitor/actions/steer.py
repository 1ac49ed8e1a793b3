"""Steering a run: asking its trainer, or starting one again.

Everything here says in a sentence what became true, or raises UserError saying why not. Functions
that wait are called from a thread of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from monitor.data.scanner import RunScanner
from monitor.data.views import RESUMABLE, RunView
from shared.control import submit
from shared.errors import RunError, UserError
from shared.health import observe
from shared.launch import resume_detached, wait_until_running
from shared.metrics_log import parse_lines
from shared.records import ENDED_STATUSES, RunState
from shared.run_directory import RunDirectory
from shared.tail import Tailer
from shared.text import one_line

ANSWER_TIMEOUT = 120.0  # seconds: a step of a large model, then the saving of a checkpoint
_LOOK = 0.1  # seconds between looks for the answer


class Launcher(Protocol):
    """Starts a trainer on a run and returns its status once it is at work."""

    def __call__(self, run: RunDirectory) -> str:
        """Raises UserError when it does not come to work."""


def launch(run: RunDirectory) -> str:
    """Resume `run` in a process of its own; returns its status when that has become true."""
    return wait_until_running(run, resume_detached(run))


def why_not_resumable(view: RunView) -> str:
    """Why `view` cannot be resumed, as a sentence; empty if it can."""
    if view.alive:
        return (
            f"{view.label} is {view.status} (process {view.pid} on {view.host}); nothing to resume."
        )
    if view.status == "completed":
        return f"{view.label} is completed; go on with `trainer resume RUN --max-steps N`."
    if view.status not in RESUMABLE:
        return f"{view.label} is {view.status}; only a run that has ended can be resumed."
    return ""


def resume(view: RunView, launcher: Launcher = launch) -> str:
    """Start the trainer of an ended run again.

    Raises UserError when the run is alive or completed, RunError when the trainer does not start.
    """
    reason = why_not_resumable(_look_again(view))
    if reason:
        raise UserError(reason)
    status = launcher(RunDirectory(view.path))
    return f"{view.label} is {one_line(status, 20)} again."


def _look_again(view: RunView) -> RunView:
    """`view` as it is now: between the last snapshot and the key somebody may have acted."""
    views = RunScanner(view.path.parent, time.time).scan()
    return next((v for v in views if v.run_id == view.run_id), view)


def why_no_request(view: RunView, action: str) -> str:
    """Why the trainer of `view` cannot be asked for `action`; empty if it can."""
    if not view.alive:
        return f"{view.label} is {view.status}: no trainer is there to {action} it."
    if view.status == "stopping" and action != "checkpoint":
        return f"{view.label} is already stopping."
    return ""


def request(view: RunView, action: str) -> tuple[str, Tailer]:
    """Ask the trainer for `action`; returns the request's id and where its answer will appear.

    Raises UserError when nobody is there to answer or the request cannot be written.
    """
    reason = why_no_request(view, action)
    if reason:
        raise UserError(reason)
    run = RunDirectory(view.path)
    tailer = Tailer(run.events_path)
    while tailer.read().more:
        pass
    try:
        return submit(run.control, action), tailer
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
    give_up: Callable[[float], bool] | None = None,
) -> str:
    """What the trainer answered to `request_id`.

    `give_up(seconds)` sleeps and says whether to stop waiting. Raises RunError when the trainer
    refuses, ends, or does not answer within `timeout` seconds.
    """
    run = RunDirectory(view.path)
    deadline = time.monotonic() + timeout
    ended = False
    while True:
        records, _ = parse_lines(tailer.read().lines)
        for record in records:
            if record.get("event") == "answer" and record.get("request") == request_id:
                message = one_line(record.get("message") or "done", 300)
                if record.get("ok") is not True:
                    raise RunError(f"{view.label}: {message}")
                return f"{view.label}: {message}"
        if ended:
            raise RunError(f"{view.label} ended without an answer.")
        if time.monotonic() > deadline:
            raise RunError(f"{view.label} has not answered within {timeout:.0f} s.")
        # An ended run gets one more look, for the answer written just before its end.
        state = run.read_state() or RunState()
        ended = state.status in ENDED_STATUSES or not observe(run, state).alive
        if give_up is None:
            time.sleep(_LOOK)
        elif give_up(_LOOK):
            return ""
