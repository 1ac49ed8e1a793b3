"""The writing side of a run directory, for our trainer and for any other training script.

with RunWriter("runs", name="my-model", max_steps=1000) as run:
    for step in range(1, 1001):
        run.log(step, loss=train_step())
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shared.control.inbox import Inbox
from shared.control.pulse import Pulse, Timings
from shared.control.requests import Request, answer_fields, pending
from shared.errors import UserError
from shared.files import AppendLog, remove_temporaries, replace_file, write_json
from shared.json_text import encode_line
from shared.ownership.heartbeat import HeartbeatFile, read_beat
from shared.ownership.lock import RunLock
from shared.ownership.process import host_name
from shared.ownership.watchdogs import BacklogWatch, DirectoryWatch, StallWatch, Turn
from shared.run.alarms import Alarms
from shared.run.attempt import newest_attempt
from shared.run.config import config_text
from shared.run.directory import RunDirectory, create_run
from shared.run.ending import ending_of
from shared.run.events import EventLog, Listener
from shared.run.log import RunLog
from shared.run.numbers import plain, plain_all
from shared.run.pace import Pace
from shared.run.records import ExitRecord, PhaseTransition, RunState
from shared.run.reserve import Reserve
from shared.run.state import StateFile, WriteJson
from shared.run.work_time import WorkTime
from shared.text import one_line, plural

_NEW_ATTEMPT = {
    "status": "initializing",
    "ended_at": None,
    "exit": None,
    "eta_seconds": None,
    "alarm": "",
}


#: Changes of phase that the state remembers; `events.jsonl` has all of them.
MAX_TRANSITIONS = 2000


class RunWriter:
    """Owns one run directory: holds its lock, writes its heartbeat and its records.

    Opening raises LockHeldError if another process owns the run, UserError if it cannot be written.
    As a context manager it records how the run ended: completed, cancelled by Ctrl-C, or failed
    with the exception's last line as the reason.
    """

    def __init__(
        self,
        runs_dir: str | Path = "runs",
        name: str = "run",
        *,
        run: RunDirectory | None = None,
        lock: RunLock | None = None,
        config: Mapping[str, Any] | None = None,
        listener: Listener | None = None,
        timings: Timings | None = None,
        clock: Callable[[], float] = time.monotonic,
        write_state: WriteJson = write_json,
        **state: Any,
    ) -> None:
        """Create a run, or take over `run`; `state` sets fields of `RunState` (`max_steps`…).

        `lock` is the run's, if the caller holds it already. `listener` is called with every event,
        from any thread; it must not block, and its exceptions are ignored. `clock` measures the
        pace of the steps. `write_state` replaces `run_state.json`.
        """
        self.run = run or create_run(Path(runs_dir), name)
        self._lock = lock or RunLock(self.run.lock_path)
        self._closed = False
        self._pace = Pace(clock)
        self._clock = clock
        timings = timings or Timings()
        self._stall, self._backlog = StallWatch(timings.stalled), BacklogWatch(timings.backlog)
        with contextlib.ExitStack() as undo:
            undo.callback(self._lock.release)
            try:
                self._directory = DirectoryWatch(self.run.path)
                old_status = self._open(
                    undo, name, state, config=config, listener=listener, write_state=write_state
                )
            except OSError as error:
                raise UserError(
                    f"Cannot write in {self.run.path}: {error.strerror}; "
                    "check its permissions and the free space."
                ) from error
            undo.pop_all()
        self._reserve = Reserve(self.run.path)
        self._inbox = Inbox(self.run.control)
        self._pulse = Pulse(
            timings,
            save=self._save_changes,
            beat=self._beat,
            watch=self._look_around,
            look=self._inbox.look,
        )
        self.event("started", previous_status=old_status, pid=os.getpid())

    def _open(
        self,
        undo: contextlib.ExitStack,
        name: str,
        changes: Mapping[str, Any],
        *,
        config: Mapping[str, Any] | None,
        listener: Listener | None,
        write_state: WriteJson,
    ) -> str | None:
        """Take the lock, beat once, open the logs and write the first state of this attempt.

        Returns the status before.
        """
        if not self._lock.held:
            self._lock.acquire()
        remove_temporaries(self.run.path)
        self._state = StateFile(
            self.run, check=self._directory.check, stamps=self._stamps, write=write_state
        )
        fields = self._state.fields
        self._fields = fields
        old_status = fields["status"] if self._state.found else None
        last_beat = read_beat(self.run.heartbeat_path)
        self._heartbeat = HeartbeatFile(self.run.heartbeat_path)
        undo.callback(self._heartbeat.close)
        # Before the state says "initializing": the last beat of a dead process would refute it.
        self._heartbeat.beat(fields["current_step"], self._pace.idle_seconds)
        self._metrics = AppendLog(self.run.metrics_path)
        undo.callback(self._metrics.close)
        self._events = EventLog(self.run, self._state, listener=listener)
        undo.callback(self._events.lines.close)
        self._log = RunLog(self.run.log_path)
        undo.callback(self._log.lines.close)
        self._logs = (self._metrics, self._events.lines, self._log.lines)
        self._alarms = Alarms(self._events, self._log, lambda text: self.update(alarm=text))
        newest = fields["attempt"] if self._state.found else newest_attempt(self.run)
        known = fields["trained_seconds"]
        self._work = WorkTime(0.0 if known is None and newest == 0 else known, self._clock)
        self._state.set(
            **_NEW_ATTEMPT,
            run_name=fields["run_name"] if self._state.found else one_line(name),
            host=host_name(),
            pid=os.getpid(),
            attempt=newest + 1,
            started_at=time.time() if fields["started_at"] is None else fields["started_at"],
        )
        if config is not None:
            self.write_config(config)
        self.update(durable=True, **changes)
        # A stop that a dying trainer left unanswered must not stop the next one.
        for request in pending(self.run.control):
            if last_beat is not None and request.asked_at <= last_beat.time:
                message = "the attempt it was meant for ended before it could act"
                self.answer(request, ok=False, message=message)
        return old_status

    def _stamps(self) -> Mapping[str, Any]:
        if self._work.look():
            self._pace.stopped()
        return {
            "updated_at": time.time(),
            "eta_seconds": self.eta_seconds(),
            "trained_seconds": self._work.seconds,
        }

    # -- reading -------------------------------------------------------------------------

    @property
    def state(self) -> RunState:
        """The state as it will next be written."""
        return self._state.state

    @property
    def step_seconds(self) -> float | None:
        """The usual time of a step in seconds, a moving average."""
        return self._pace.step_seconds

    @property
    def directory_problem(self) -> str:
        """A sentence while the run directory is missing or not writable, else empty."""
        return self._directory.problem

    @property
    def directory_lost_seconds(self) -> float:
        """How long `directory_problem` has lasted, by the monotonic clock; 0.0 without one."""
        return self._directory.lost_seconds

    @property
    def taken_over(self) -> bool:
        """Whether another process has taken the run over. That is final."""
        return self._directory.taken

    # -- records -------------------------------------------------------------------------

    def log(self, step: int, **metrics: Any) -> None:
        """Append the record of one finished step and update the state.

        The state also shows `loss`, `tokens_total`, `tokens_per_second` and `mfu`. `best_loss`
        follows `val_loss` once there is one, and `loss` until then. A new `phase` is entered.
        """
        self.record(step, metrics)

    def record(self, step: int, metrics: dict[str, Any], **counters: int) -> None:
        """Do what `log` does, with the dict itself, which must not be changed later.

        `counters` are further fields of the state.
        """
        now = time.time()
        fields = self._fields
        if type(step) is not int:
            step = plain(step)
        plain_all(metrics)
        phase = metrics.get("phase")
        if phase and phase != fields["current_phase"]:
            self.set_phase(str(phase), step)
        record = {
            "step": step,
            "time": now,
            **metrics,
            "phase": fields["current_phase"],
            "attempt": fields["attempt"],
        }
        self._metrics.append(encode_line(record))
        self._pace.finished(step, metrics.get("step_time_ms"))
        self._state.finish_step(step, metrics, counters)

    def progress(self) -> None:
        """Report work that is not a step, such as an evaluation: the run is not stalled."""
        self._pace.other_work()

    def eta_seconds(self) -> float | None:
        """Seconds to the last step; None when unknown or when the run has ended."""
        last = self._fields["max_steps"]
        if last is None or self._fields["ended_at"] is not None:
            return None
        return self._pace.seconds_to(last)

    def event(self, kind: str, /, **fields: Any) -> None:
        """Append to `events.jsonl`: what happened, at which step, when."""
        self._events.append(kind, **fields)

    def alarm(self, kind: str, message: str) -> None:
        """Report once that something is wrong while training continues, until `alarm_over`.

        Works from any thread, and when nothing can be written: then the console shows it.
        """
        self._alarms.start(kind, message)

    def alarm_over(self, kind: str, message: str) -> None:
        """Report that an alarm has ended. Does nothing if there was no such alarm."""
        self._alarms.end(kind, message)

    def say(self, line: str) -> None:
        """Write a line to `train.log` and to the console, immediately."""
        self._log.say(line)

    # -- state ---------------------------------------------------------------------------

    def update(self, *, durable: bool = False, **changes: Any) -> None:
        """Change fields of the state; `durable=True` writes it before returning.

        Raises TypeError for a field that `RunState` does not have.
        """
        self._state.set(**changes)
        if durable:
            self._state.save()

    def set_status(self, status: str) -> None:
        """Record a change of status, durably. If the disk is full, as soon as there is room."""
        previous = self._fields["status"]
        self.progress()
        self._work.set_working(status != "paused")
        if status == "running":
            self._pace.interrupt()
        if status != previous:
            self.event("status", status=status, previous=previous)
            with contextlib.suppress(OSError):
                self.update(status=status, durable=True)

    def set_phase(self, phase: str, step: int) -> None:
        """Enter `phase` at `step`. Does nothing if it is the current phase."""
        previous = self._fields["current_phase"]
        if phase == previous:
            return
        transition = PhaseTransition(step, previous, phase, time.time())
        self.event("phase", step=step, previous=previous, phase=phase)
        known = self._fields["phase_transitions"][1 - MAX_TRANSITIONS :]
        self.update(current_phase=phase, phase_transitions=(*known, transition))

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved configuration."""
        replace_file(self.run.config_path, config_text(config).encode())

    # -- control -------------------------------------------------------------------------

    def take_requests(self) -> list[Request]:
        """Requests that arrived since the last call, oldest first. Makes no system call."""
        return self._inbox.take()

    @property
    def waiting_requests(self) -> int:
        """How many requests arrived and were not taken yet."""
        return self._inbox.waiting

    def answer(self, request: Request, *, ok: bool, message: str) -> None:
        """Answer a request with an event, then remove its file."""
        self.event("answer", **answer_fields(request, ok=ok, message=message))
        request.remove()

    # -- the end -------------------------------------------------------------------------

    def finish(self, status: str, code: int = 0, reason: str = "", *, final: bool = False) -> None:
        """Record how the run ended and release it. Later calls do nothing.

        `final`: starting it again would end the same way, so that no supervisor tries.
        Raises OSError when the state cannot be written; the run is released all the same.
        """
        if self._closed:
            return
        self._closed = True
        self._pulse.stop()
        if not self._directory.problem:
            self._reserve.release()  # on a full disk: room for the last records
        for request in pending(self.run.control):  # also those taken and never answered
            self.answer(request, ok=False, message=f"the run ended ({status}) before it could act")
        self.event(
            "status", status=status, previous=self._fields["status"], code=code, reason=reason
        )
        record = ExitRecord(code, reason, self._log.last_lines, final)
        try:
            self.update(status=status, ended_at=time.time(), exit=record, durable=True)
        except OSError as error:
            with contextlib.suppress(OSError, ValueError):
                print(
                    f"[WARN] The run ended ({status}), but its state cannot be written: "
                    f"{error.strerror}; its heartbeat says how it ended",
                    flush=True,
                )
            raise
        finally:
            self._beat(end=status)
            for log in self._logs:
                log.close()
            lost = sum(log.waiting for log in self._logs)
            if lost:
                with contextlib.suppress(OSError, ValueError):
                    print(f"[WARN] {plural(lost, 'line')} of the run's records lost", flush=True)
            self._heartbeat.close()
            self._lock.release()

    def __enter__(self) -> Self:
        if self._fields["status"] == "initializing":
            self.set_status("running")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ending = ending_of(error)
        if error is not None and ending.is_fault:
            self.say("".join(traceback.format_exception(error)).rstrip())
        self.finish(ending.status, ending.code, ending.reason)

    # -- the pulse -----------------------------------------------------------------------

    def _save_changes(self) -> None:
        if self._state.dirty:
            self._state.save(durable=False)

    def _beat(self, end: str = "") -> OSError | None:
        """Beat. What the state cannot tell, because it cannot be written, the beat tells."""
        facts = {}
        if self._state.problem is not None:
            facts = {"alarm": one_line(self._fields["alarm"], 120), "end": end}
        return self._heartbeat.beat(
            self._state.fields["current_step"],
            self._pace.idle_seconds,
            self._pace.step_seconds,
            **{key: value for key, value in facts.items() if value},
        )

    def _look_around(self, failure: OSError | None) -> None:
        """Report what is wrong with this run, and what no longer is.

        `failure` is the error of the last heartbeat.
        """
        if self._work.look():
            self._pace.stopped()
        stall = self._stall.look(
            running=self._fields["status"] == "running",
            idle=self._pace.idle_seconds,
            step_seconds=self._pace.step_seconds,
        )
        if stall:
            self.event("stall_over" if stall.over else "stalled", message=stall.message)
        self._directory.taken = self._lock.lost
        self._alarm_of("directory", self._directory.look(failure or self._state.problem))
        if not self._directory.problem:
            self._alarm_of("log", self._backlog.look(self._logs, self._state.problem))

    def _alarm_of(self, kind: str, turn: Turn | None) -> None:
        if turn:
            (self.alarm_over if turn.over else self.alarm)(kind, turn.message)
