"""The writing side of a run directory, for our trainer and for anybody's training script.

with RunWriter("runs", name="my-model", max_steps=1000) as run:
    for step in range(1, 1001):
        run.log(step, loss=train_step())
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import yaml

from shared.control.requests import Request, pending
from shared.errors import UserError
from shared.files import AppendLog, open_file, remove_temporaries, replace_file, write_json
from shared.json_text import Json, encode_json, encode_line, is_number
from shared.ownership.heartbeat import INTERVAL, HeartbeatFile, read_beat
from shared.ownership.lock import RunLock
from shared.ownership.process import host_name
from shared.ownership.watchdogs import BacklogWatch, DirectoryWatch, StallWatch, Turn
from shared.run.directory import RunDirectory, create_run
from shared.run.pace import Pace
from shared.run.record_lines import parse_lines
from shared.run.records import ExitRecord, PhaseTransition, RunState
from shared.text import many_lines, one_line

PULSE = 0.25  # seconds between looks at the control folder
STATE_EVERY = 0.5  # seconds between writes of a changing state
LAST_LINES = 20
MAX_ATTEMPT = 1 << 31
_NEW_ATTEMPT = {
    "status": "initializing",
    "ended_at": None,
    "exit": None,
    "eta_seconds": None,
    "alarm": "",
}
_NEWEST_BYTES = 1 << 16


class RunWriter:
    """Owns one run directory: takes its lock, beats its heart, appends its records.

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
        listener: Callable[[Json], None] | None = None,
        **state: Any,
    ) -> None:
        """Create a run, or take over `run`; `state` sets fields of `RunState` (`max_steps`…).

        `lock` is the run's, when the caller has taken it already. `listener` is called with every
        event, from any thread; it must not block, and what it raises is ignored.
        """
        self.run = run or create_run(Path(runs_dir), name)
        self._lock = lock or RunLock(self.run.lock_path)
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._appending = threading.Lock()
        self._alarms: dict[str, str] = {}
        self._dirty = False
        self._closed = False
        self._listener = listener
        self._pace = Pace()
        self._stall, self._backlog = StallWatch(), BacklogWatch()
        self._unwritten: OSError | None = None
        with contextlib.ExitStack() as undo:
            undo.callback(self._lock.release)
            try:
                self._directory = DirectoryWatch(self.run.path)
                self._open(undo, name, state, config)
            except OSError as error:
                raise UserError(
                    f"Cannot write in {self.run.path}: {error.strerror}; "
                    "check its permissions and the free space."
                ) from error
            undo.pop_all()
        self._console_is_log = _is_same_file(sys.stdout, self.run.log_path)
        self._requests: list[Request] = []
        self._seen_requests: frozenset[str] = frozenset()
        self._stop = threading.Event()
        self._pulse = threading.Thread(target=self._beat_forever, name="run-pulse", daemon=True)
        self._pulse.start()
        self.event("started", previous_status=self._old_status, pid=os.getpid())

    def _open(
        self,
        undo: contextlib.ExitStack,
        name: str,
        changes: Mapping[str, Any],
        config: Mapping[str, Any] | None,
    ) -> None:
        """Take the lock, beat once, open the logs and write the first state of this attempt."""
        if not self._lock.held:
            self._lock.acquire()
        remove_temporaries(self.run.path)
        old = self.run.read_state()
        last_beat = read_beat(self.run.heartbeat_path)
        self._heartbeat = HeartbeatFile(self.run.heartbeat_path)
        undo.callback(self._heartbeat.close)
        # Before the state says "initializing": the last beat of a dead process would refute it.
        step = old.current_step if old else 0
        self._heartbeat.beat(step, self._pace.idle_seconds)
        self._metrics = AppendLog(self.run.metrics_path)
        undo.callback(self._metrics.close)
        self._events = AppendLog(self.run.events_path)
        undo.callback(self._events.close)
        self._log = AppendLog(self.run.log_path)
        undo.callback(self._log.close)
        self._logs = (self._metrics, self._events, self._log)
        self._old_status = old.status if old else None
        now = time.time()
        state = old or RunState(run_id=self.run.run_id, run_name=one_line(name))
        # A plain dict: a frozen state of 30 fields built anew costs more than the rest of a step's
        # bookkeeping. `state` makes one when somebody looks.
        self._fields = {
            **vars(state),
            **_NEW_ATTEMPT,
            "host": host_name(),
            "pid": os.getpid(),
            "attempt": max(state.attempt, 0 if old else _newest_attempt(self.run)) + 1,
            "started_at": now if state.started_at is None else state.started_at,
        }
        if config is not None:
            self.write_config(config)
        self.update(durable=True, **changes)
        # A stop that a dying trainer left unanswered must not stop the next one.
        for request in pending(self.run.control):
            if last_beat is not None and request.asked_at <= last_beat.time:
                message = "the attempt it was meant for ended before it could act"
                self.answer(request, ok=False, message=message)

    # -- reading -------------------------------------------------------------------------

    @property
    def state(self) -> RunState:
        """The state as it will next be written."""
        with self._guard:
            return RunState(**self._fields)

    @property
    def step_seconds(self) -> float | None:
        """The usual time of a step in seconds, a moving average."""
        return self._pace.step_seconds

    @property
    def directory_problem(self) -> str:
        """A sentence while the run directory is gone or cannot be written, else empty."""
        return self._directory.problem

    @property
    def taken_over(self) -> bool:
        """Whether another process has taken the run over, for good."""
        return self._directory.taken

    @property
    def directory_lost_seconds(self) -> float:
        """How long that has been so, by the monotonic clock; 0.0 while it is not."""
        return self._directory.lost_seconds

    # -- records -------------------------------------------------------------------------

    def log(self, step: int, **metrics: Any) -> None:
        """Append the record of one finished step and bring the state up to it.

        `loss`, `val_loss`, `tokens_total` and `tokens_per_second` are also shown in the state;
        `best_loss` follows `val_loss` from the first one on, and `loss` until then. A `phase` that
        is not the present one is entered.
        """
        now = time.time()
        fields = self._fields
        step = _plain(step)
        metrics = {key: _plain(value) for key, value in metrics.items()}
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
        changes: dict[str, Any] = {"current_step": step}
        if "loss" in metrics:
            changes["current_loss"] = _as_float(metrics["loss"])
        for key in ("tokens_total", "tokens_per_second"):
            if is_number(metrics.get(key)):
                changes[key] = metrics[key]
        changes.update(self._new_best(step, metrics))
        with self._guard:
            fields.update(changes)
            self._dirty = True

    def _new_best(self, step: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
        metric, best = self._fields["best_metric"], self._fields["best_loss"]
        key = "val_loss" if metric == "val_loss" or "val_loss" in metrics else "loss"
        value = _as_float(metrics.get(key))
        if value is None or not math.isfinite(value):
            return {}
        if key == metric and best is not None and value >= best:
            return {}
        return {"best_loss": value, "best_step": step, "best_metric": key}

    def progress(self) -> None:
        """Say that work goes on although no step was finished (evaluation, saving)."""
        self._pace.other_work()

    def eta_seconds(self) -> float | None:
        """Seconds to the last step, None when that is not known or the run has ended."""
        last = self._fields["max_steps"]
        if last is None or self._fields["ended_at"] is not None:
            return None
        return self._pace.seconds_to(last)

    def event(self, kind: str, **fields: Any) -> None:
        """Append to `events.jsonl`: what happened, at which step, when."""
        record = {
            "time": time.time(),
            "event": kind,
            "step": self._fields["current_step"],
            "attempt": self._fields["attempt"],
            **fields,
        }
        with self._appending:
            self._events.append(encode_line(record))
        if self._listener is not None:
            with contextlib.suppress(Exception):
                self._listener(record)

    def alarm(self, kind: str, message: str) -> None:
        """Tell once that something is wrong with which training goes on, until `alarm_over`.

        Works from any thread, and when nothing can be written: then the console tells it.
        """
        with self._guard:
            before = self._alarms.get(kind)
            self._alarms[kind] = message
        if before is None:
            self.event("alarm", alarm=kind, message=message)
            self.say(f"[ALARM] {message}")
        if before != message:
            self._show_alarms()

    def alarm_over(self, kind: str, message: str) -> None:
        """What `alarm` told of is mended. Does nothing when there was no such alarm."""
        with self._guard:
            before = self._alarms.pop(kind, None)
        if before is not None:
            self._show_alarms()
            self.event("alarm_over", alarm=kind, message=message)
            self.say(f"[INFO] {message}")

    def _show_alarms(self) -> None:
        with self._guard:
            self._fields["alarm"] = "; ".join(self._alarms.values())
            self._dirty = True

    def say(self, line: str) -> None:
        """Put a line into `train.log` and on the console, at once."""
        text = many_lines(line)
        with self._appending:
            for part in text.split("\n"):
                self._last_lines.append(part)
                self._log.append(part.encode("utf-8", "replace"))
        if not self._console_is_log:
            with contextlib.suppress(OSError, ValueError):
                print(text, flush=True)

    # -- state ---------------------------------------------------------------------------

    def update(self, *, durable: bool = False, **changes: Any) -> None:
        """Change fields of the state; `durable=True` writes it before returning.

        Raises TypeError for a field that `RunState` does not have.
        """
        unknown = changes.keys() - self._fields.keys()
        if unknown:
            raise TypeError(f"RunState has no field {', '.join(sorted(unknown))}")
        with self._guard:
            self._fields.update(changes)
            self._dirty = True
        if durable:
            self._write_state(durable=True)

    def set_status(self, status: str) -> None:
        """Record a change of status, durably, or as soon as a full disk lets us."""
        previous = self._fields["status"]
        self.progress()
        if status == "running":
            self._pace.interrupt()
        if status != previous:
            self.event("status", status=status, previous=previous)
            with contextlib.suppress(OSError):
                self.update(status=status, durable=True)

    def set_phase(self, phase: str, step: int) -> None:
        """Enter `phase` at `step`, if it is not the present one."""
        previous = self._fields["current_phase"]
        if phase == previous:
            return
        transition = PhaseTransition(step, previous, phase, time.time())
        self.event("phase", step=step, previous=previous, phase=phase)
        known = self._fields["phase_transitions"]
        self.update(current_phase=phase, phase_transitions=(*known, transition))

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved configuration."""
        plain = orjson.loads(encode_json(dict(config)))  # paths and numbers of any kind as JSON's
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
        replace_file(self.run.config_path, text.encode())

    # -- control -------------------------------------------------------------------------

    @property
    def waiting_requests(self) -> int:
        """How many requests have arrived and were not taken yet."""
        return len(self._requests)

    def take_requests(self) -> list[Request]:
        """Requests that arrived since the last call, oldest first. Costs no system call."""
        if not self._requests:
            return []
        with self._guard:
            taken, self._requests = self._requests, []
        return taken

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

    # -- the end -------------------------------------------------------------------------

    def finish(self, status: str, code: int = 0, reason: str = "", *, final: bool = False) -> None:
        """Record how the run ended and give it up. Later calls do nothing.

        `final`: starting it again would end the same way, so that no supervisor tries.
        Raises OSError when the state cannot be written; the run is given up all the same.
        """
        if self._closed:
            return
        self._closed = True
        self._stop.set()
        self._pulse.join()
        for request in pending(self.run.control):  # also those taken and never answered
            self.answer(request, ok=False, message=f"the run ended ({status}) before it could act")
        self.event(
            "status", status=status, previous=self._fields["status"], code=code, reason=reason
        )
        record = ExitRecord(code, reason, tuple(self._last_lines), final)
        try:
            self.update(status=status, ended_at=time.time(), exit=record, durable=True)
        finally:
            self._beat()
            for log in self._logs:
                log.close()
            lost = sum(log.waiting for log in self._logs)
            if lost:
                with contextlib.suppress(OSError, ValueError):
                    print(f"[WARN] {lost} lines of the run's records are lost", flush=True)
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
        if error is None:
            self.finish("completed")
        elif isinstance(error, KeyboardInterrupt):
            self.finish("cancelled", 130, "interrupted from the keyboard")
        elif isinstance(error, SystemExit) and error.code in (0, None):
            self.finish("completed")
        else:
            if not isinstance(error, (UserError, SystemExit)):
                self.say("".join(traceback.format_exception(error)).rstrip())
            self.finish(
                "failed", _exit_code(error), one_line(f"{type(error).__name__}: {error}", 500)
            )

    # -- the pulse -----------------------------------------------------------------------

    def _beat_forever(self) -> None:
        next_beat = next_state = 0.0
        while True:
            now = time.monotonic()
            if self._dirty and now >= next_state:
                # A full disk must not end the pulse: the next round tries again.
                with contextlib.suppress(OSError):
                    self._write_state(durable=False)
                next_state = now + STATE_EVERY
            if now >= next_beat:
                failure = self._beat()
                with contextlib.suppress(Exception):  # whatever is wrong there, the beat goes on
                    self._look_around(failure or self._unwritten)
                next_beat = now + INTERVAL
            found = self._unseen_requests()
            if found:
                with self._guard:
                    self._requests = self._requests + found
            if self._stop.wait(PULSE):
                return

    def _beat(self) -> OSError | None:
        return self._heartbeat.beat(
            self._fields["current_step"], self._pace.idle_seconds, self._pace.step_seconds
        )

    def _look_around(self, failure: OSError | None) -> None:
        """Tell what is wrong with this run, and what no longer is."""
        stall = self._stall.look(
            running=self._fields["status"] == "running",
            idle=self._pace.idle_seconds,
            step_seconds=self._pace.step_seconds,
        )
        if stall:
            self.event("stall_over" if stall.over else "stalled", message=stall.message)
        self._directory.taken = self._lock.lost
        self._alarm_of("directory", self._directory.look(failure))
        if not self._directory.problem:
            self._alarm_of("log", self._backlog.look(self._logs, self._unwritten))

    def _alarm_of(self, kind: str, turn: Turn | None) -> None:
        if turn:
            (self.alarm_over if turn.over else self.alarm)(kind, turn.message)

    def _unseen_requests(self) -> list[Request]:
        seen = self._seen_requests
        found = pending(self.run.control)
        self._seen_requests = frozenset(r.request_id for r in found)
        return [r for r in found if r.request_id not in seen]

    def _write_state(self, *, durable: bool) -> None:
        with self._writing:  # from snapshot to rename, or an older state could land on a newer one
            self._write_state_now(durable=durable)

    def _write_state_now(self, *, durable: bool) -> None:
        with self._guard:
            fields = self._fields
            fields["updated_at"], fields["eta_seconds"] = time.time(), self.eta_seconds()
            state = RunState(**fields)
            self._dirty = False
        try:
            self._directory.check()
            write_json(self.run.state_path, state.to_json(), durable=durable)
        except OSError as error:
            self._dirty, self._unwritten = True, error
            raise
        self._unwritten = None


def _plain(value: Any) -> Any:
    """The number in a numpy scalar or a one-element tensor; anything else as it is."""
    if value is None or type(value) in (float, int, str, bool):
        return value
    try:
        return value.item()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return value


def _as_float(value: object) -> float | None:
    try:
        return float(value) if is_number(value) else None  # type: ignore[arg-type]
    except OverflowError:
        return None


def _exit_code(error: BaseException) -> int:
    if isinstance(error, UserError):
        return error.exit_code
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 1


def _newest_attempt(run: RunDirectory) -> int:
    """The attempt the records end with: a lost state must not make new records yield to old."""
    newest = 0
    for path in (run.metrics_path, run.events_path):
        with contextlib.suppress(OSError), open_file(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _NEWEST_BYTES))
            attempts = (r.get("attempt") for r in parse_lines(file.read())[0])
            newest = max([newest, *(a for a in attempts if type(a) is int and a < MAX_ATTEMPT)])
    return newest


def _is_same_file(stream: Any, path: Path) -> bool:
    """Whether `stream` already goes into `path` (a detached run's console does)."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except (OSError, ValueError, AttributeError):
        return False
