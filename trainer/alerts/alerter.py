"""Turning the events of runs into alerts, without ever delaying a run."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from shared.control.daemons import DaemonDirectory, view_daemon
from shared.errors import UserError
from shared.json_text import Json
from shared.run.directory import RunDirectory
from shared.run.records import RunState
from shared.text import one_line
from trainer.alerts.alert import Alert, alert_of
from trainer.alerts.courier import Courier
from trainer.alerts.limits import RateLimiter
from trainer.alerts.settings import AlertSettings, load_settings
from trainer.alerts.sinks import Sink, sinks_of

CLOSE_SECONDS = 5.0  # for alerts to be delivered when the process ends
_INBOX = 1000
STATE_SECONDS = 1.0  # to wait for the run state that belongs to the event of an end
_AS_NAMED = frozenset({"crashed", "diverged", "rolled_back", "advice", "new_best"})
_ENDS = frozenset({"finished", "failed", "crashed", "diverged"})
_TROUBLE = frozenset({"disk", "space", "log", "directory"})  # alarms

_Notice = tuple[str, RunDirectory, Json, int]


def _say(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"[WARN] {message}", file=sys.stderr, flush=True)


class Alerter:
    """Turns events into alerts and sends them, in its own threads.

    `warn` gets one line, without secrets, for what cannot be delivered.
    """

    def __init__(
        self,
        settings: AlertSettings,
        warn: Callable[[str], None] = _say,
        *,
        wanted: Callable[[], bool] = lambda: True,
        sinks: list[Sink] | None = None,
        clock: Callable[[], float] = time.monotonic,
        back_off: Callable[[int], float] | None = None,
        state_seconds: float = STATE_SECONDS,
    ) -> None:
        """`wanted` is called before each alert, in the alerter's thread.

        `back_off` gives the seconds before retry 0, 1, …; `state_seconds` is how long to wait for
        the run state that belongs to the event of an end.
        """
        self._on = settings.on.model_dump()
        self._warn = warn
        self._wanted = wanted
        self._limiter = RateLimiter(settings.rate_limit, clock)
        self._state_seconds = state_seconds
        options = {} if back_off is None else {"back_off": back_off}
        self._couriers = [
            Courier(sink, self._tell, self._count, **options)
            for sink in (sinks_of(settings) if sinks is None else sinks)
        ]
        self._stalled: set[str] = set()
        self._diverged: set[str] = set()
        self._inbox: queue.Queue[_Notice | None] = queue.Queue(_INBOX)
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)
        self._thread.start()

    def notice(self, run: RunDirectory, record: Json) -> None:
        """Queue an alert if this event of `run` deserves one. Never blocks."""
        kind = self._kind_of(run, record)
        if kind is None or not self._on[kind] or self._closed:
            return
        if not self._limiter.admit(run.run_id, kind, is_end=kind in _ENDS):
            return
        suppressed = self._limiter.take_suppressed(run.run_id)
        try:
            self._inbox.put_nowait((kind, run, record, suppressed))
        except queue.Full:
            self._limiter.suppress(run.run_id, 1 + suppressed)

    def held_back(self, run_id: str) -> int:
        """How many alerts of a run were not delivered and not yet counted in a later one."""
        return self._limiter.suppressed(run_id)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Deliver the alerts that wait, for at most `timeout` seconds."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + timeout
        try:
            self._inbox.put_nowait(None)
        except queue.Full:  # drop one alert to make room
            with contextlib.suppress(queue.Empty, queue.Full):
                self._inbox.get_nowait()
                self._inbox.put_nowait(None)
        self._thread.join(timeout)
        for courier in self._couriers:
            courier.close(deadline)
        for courier in self._couriers:
            courier.join()

    # -- what is worth an alert ------------------------------------------------------------

    def _kind_of(self, run: RunDirectory, record: Json) -> str | None:
        run_id, event = run.run_id, record.get("event")
        if event == "status":
            return self._ending(run_id, record.get("status"))
        if event == "alarm":
            return "disk_low" if str(record.get("alarm")) in _TROUBLE else None
        if event == "stalled":
            # Both the run and the daemon that watches it report a stall; one alert is enough.
            if run_id in self._stalled:
                return None
            self._stalled.add(run_id)
            return "stalled"
        if event in ("stall_over", "started"):
            self._stalled.discard(run_id)
            if event == "started":
                self._diverged.discard(run_id)
            return None
        if event == "diverged":
            self._diverged.add(run_id)
        return (
            event if event in ("crashed", "diverged", "rolled_back", "advice", "new_best") else None
        )

    def _ending(self, run_id: str, status: object) -> str | None:
        if status == "completed":
            return "finished"
        if status != "failed":
            return None
        # The divergence had its own alert already, unless that kind is switched off.
        if run_id in self._diverged and self._on["diverged"]:
            self._diverged.discard(run_id)
            return None
        return "failed"

    # -- sending ---------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            notice = self._inbox.get()
            if notice is None:
                return
            try:
                self._send(*notice)
            except Exception as error:  # one strange record must not end all alerts
                self._tell(f"alerts: no alert for {notice[0]} ({type(error).__name__})")

    def _send(self, kind: str, run: RunDirectory, record: Json, suppressed: int) -> None:
        if not self._wanted():
            return
        alert = alert_of(kind, run, record, _message(record))
        alert = replace(
            alert.with_state(_state_after(run, record, self._state_seconds)), suppressed=suppressed
        )
        for courier in self._couriers:
            if not courier.send(alert):
                self._count(alert)

    def _count(self, alert: Alert) -> None:
        self._limiter.suppress(alert.run_id, 1 + alert.suppressed)

    def _tell(self, message: str) -> None:
        with contextlib.suppress(Exception):
            self._warn(one_line(message, 300))


def _message(record: Json) -> str:
    """The event's own message."""
    if record.get("event") == "new_best":
        value = record.get("value")
        shown = f"{value:.4g}" if isinstance(value, (int, float)) else value
        return f"{record.get('metric', 'loss')} {shown}"
    said = record.get("reason" if record.get("event") == "status" else "message")
    return said if isinstance(said, str) else ""


def _state_after(run: RunDirectory, record: Json, seconds: float) -> RunState:
    """The run's state. At its end the state is written just after the event, so wait for it."""
    deadline = time.monotonic() + seconds
    while True:
        state = run.read_state() or RunState()
        awaited = record.get("status") if record.get("event") == "status" else None
        if awaited in (None, state.status) or time.monotonic() > deadline:
            return state
        time.sleep(0.01)


def is_told_by_daemon(run: RunDirectory) -> bool:
    """Whether a daemon on this host supervises `run` and sends its alerts."""
    daemon = view_daemon(DaemonDirectory.of(run.path.parent))
    return daemon.alerts and run.run_id in daemon.runs


def alerts_of_run(
    run: RunDirectory,
    warn: Callable[[str], None] = _say,
    *,
    strict: bool = True,
    told_by_daemon: Callable[[RunDirectory], bool] = is_told_by_daemon,
) -> Alerter | None:
    """The alerter of a run's own process, silent while `told_by_daemon`; None without settings.

    Raises UserError for wrong settings if `strict`. Otherwise it warns, since nobody watches a
    restart.
    """
    try:
        settings = load_settings()
    except UserError as error:
        if strict:
            raise
        warn(f"alerts are off: {error}")
        return None
    if settings is None:
        return None
    return Alerter(settings, warn, wanted=lambda: not told_by_daemon(run))
