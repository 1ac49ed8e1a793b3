"""The process of a daemon. There is one daemon per host and runs directory."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from shared import __version__
from shared.control.daemons import FOLDER, DaemonDirectory, is_watching
from shared.control.requests import names_of_requests, pending
from shared.errors import RunError, UserError
from shared.files import write_json
from shared.json_text import Json
from shared.ownership.heartbeat import INTERVAL, BeatWatch, HeartbeatFile, read_beat
from shared.ownership.lock import LockHeldError, RunLock
from shared.ownership.process import host_name
from shared.text import one_line, plural
from trainer.alerts.alerter import Alerter
from trainer.alerts.settings import load_settings
from trainer.daemon.events import EventFeed
from trainer.daemon.gpus import list_gpus
from trainer.daemon.log import DaemonLog
from trainer.daemon.policy import RestartLimits
from trainer.daemon.scheduler import Limits
from trainer.daemon.supervisor import Supervisor

TICK = 0.5  # seconds between rounds
OTHERS_EVERY = 2.0  # seconds between looks for daemons of other hosts
DRAIN_TIMEOUT = 600.0  # seconds for the runs to save when the daemon ends with them
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class DaemonSettings:
    """`max_runs` None: one per GPU, or one without GPUs."""

    runs_dir: Path
    max_runs: int | None = None
    per_gpu: int = 1
    max_restarts: int = 5
    alerts: Path | None = None
    console: bool = True


def open_folder(runs_dir: Path) -> DaemonDirectory:
    """The folder of this host's daemon, created if necessary. Raises UserError."""
    directory = DaemonDirectory.of(runs_dir)
    try:
        directory.control.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"Cannot write in {one_line(runs_dir)}: {error.strerror}; name the folder that holds "
            "your runs with --runs-dir."
        ) from error
    return directory


def take_lock(directory: DaemonDirectory, runs_dir: Path) -> RunLock:
    """Take the daemon's lock. Raises UserError with the daemon that holds it."""
    lock = RunLock(directory.lock_path)
    try:
        lock.acquire()
    except LockHeldError as error:
        who = str(error.holder) if error.holder else "another process"
        raise UserError(
            f"A daemon watches {one_line(runs_dir)} already: {who}; stop it first with "
            "trainer daemon stop."
        ) from error
    except OSError as error:
        raise RunError(
            f"Cannot take {one_line(directory.lock_path)}: {error.strerror}; check its permissions."
        ) from error
    return lock


class Others:
    """The hosts with a daemon in the same directory, refreshed every few seconds."""

    def __init__(self, runs_dir: Path) -> None:
        self._folder = runs_dir / FOLDER
        self._own = DaemonDirectory.of(runs_dir).path.name
        self._watches: dict[str, BeatWatch] = {}
        self._hosts: frozenset[str] = frozenset()
        self._looked_at = -1e9

    def __call__(self) -> frozenset[str]:
        now = time.monotonic()
        if now - self._looked_at >= OTHERS_EVERY:
            self._looked_at = now
            self._hosts = frozenset(self._look())
        return self._hosts

    def _look(self) -> Iterator[str]:
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(self._folder)):  # noqa: PTH208
                directory = DaemonDirectory(self._folder / name)
                watch = self._watches.setdefault(name, BeatWatch())
                if name != self._own and is_watching(directory, watch):
                    beat = read_beat(directory.heartbeat_path)
                    if beat is not None:
                        yield beat.process.host


class Daemon:
    """Holds the daemon's lock, writes its heartbeat, and runs the supervisor until told to end."""

    def __init__(self, settings: DaemonSettings) -> None:
        """Raises UserError when the directory cannot be written or has a daemon already."""
        self._settings = settings
        self._runs_dir = settings.runs_dir.resolve()
        alerts = load_settings(settings.alerts)  # first: an invalid file must change nothing
        self._directory = open_folder(self._runs_dir)
        self._lock = take_lock(self._directory, self._runs_dir)
        self._since = time.time()
        self._ending, self._over = threading.Event(), threading.Event()
        self._why = ""
        self._with_runs = False
        self._published: Json = {}
        try:
            self._log = DaemonLog(self._directory.log_path, console=settings.console)
            self._heartbeat = HeartbeatFile(self._directory.heartbeat_path)
            self._heartbeat.beat()
        except OSError as error:
            self._lock.release()
            raise UserError(
                f"Cannot write in {one_line(self._directory.path)}: {error.strerror}; check its "
                "permissions and the free space."
            ) from error
        self._alerter = Alerter(alerts, self._log.say) if alerts is not None else None
        gpus = list_gpus(os.environ)
        self._gpu_names = [gpu.name for gpu in gpus]
        self._limits = Limits(
            settings.max_runs or max(1, len(gpus) * settings.per_gpu), settings.per_gpu
        )
        self._supervisor = Supervisor(
            self._runs_dir,
            self._directory.care_path,
            self._limits,
            RestartLimits(settings.max_restarts),
            gpus=lambda: list_gpus(os.environ) if gpus else (),
            others=Others(self._runs_dir),
            feed=EventFeed(self._alerter.notice) if self._alerter is not None else None,
            say=self._log.say,
        )
        for request in pending(self._directory.control):
            request.remove()  # it was for a predecessor

    def run(self) -> int:
        """Watch until a signal or a request; the runs continue. Returns the exit code."""
        pulse = threading.Thread(target=self._beat_forever, name="daemon-pulse", daemon=True)
        with self._signals():
            pulse.start()
            try:
                self._announce()
                self._watch()
                self._end()
            finally:
                self._over.set()
                self._supervisor.close()
                pulse.join()
                self._publish(ended_at=time.time())
                if self._alerter is not None:
                    self._alerter.close()
                self._heartbeat.close()
                self._log.close()
                self._lock.release()
        return 0

    def _watch(self) -> None:
        """Repeat rounds until told to end."""
        while not self._ending.is_set():
            self._supervisor.tick()
            self._publish()
            self._take_requests()
            self._ending.wait(TICK)

    def _end(self) -> None:
        living = self._supervisor.living()
        if self._with_runs and living:
            self._log.say(
                f"ending on {self._why}; asking {plural(len(living), 'run')} to save and stop"
            )
            self._drain()
        elif living:
            self._log.say(f"ending on {self._why}; {_continue(len(living))} without a daemon")
        else:
            self._log.say(f"ending on {self._why}")

    def _drain(self) -> None:
        """Let every run save and end; the next daemon restarts them."""
        self._supervisor.drain()
        deadline = time.monotonic() + DRAIN_TIMEOUT
        while self._supervisor.living() and time.monotonic() < deadline:
            self._supervisor.tick()
            self._publish()
            time.sleep(TICK / 5)
        left = self._supervisor.living()
        if left:
            self._log.say(f"still saving, left alone: {', '.join(left)}")

    # -- signals and requests ------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def handle(number: int, _frame: FrameType | None) -> None:
            self._stop(signal.Signals(number).name)

        previous = {
            number: signal.signal(number, handle)
            for number in _STOPS
            if signal.getsignal(number) is not signal.SIG_IGN  # nohup
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _stop(self, why: str) -> None:
        self._why = self._why or why
        self._ending.set()

    def _take_requests(self) -> None:
        if not names_of_requests(self._directory.control):
            return
        for request in pending(self._directory.control):
            if request.action == "stop":
                self._with_runs = request.arguments.get("runs") is True
                self._stop(f"request of {one_line(request.asked_by, 80)}")
            request.remove()

    # -- heartbeat and state -------------------------------------------------------------

    def _beat_forever(self) -> None:
        # In a thread: on a slow disk, a round may take longer than the limit for a dead daemon.
        while not self._over.wait(INTERVAL):
            self._heartbeat.beat()

    def _announce(self) -> None:
        gpus = f"{len(self._gpu_names)} GPUs" if self._gpu_names else "no GPU"
        most = self._limits.max_runs
        self._log.say(
            f"watching {self._runs_dir} on {host_name()} (process {os.getpid()}): {gpus}, "
            f"{plural(most, 'run')} at once"
        )
        found = len(self._supervisor.cares)
        if found:
            self._log.say(f"taking over {plural(found, 'run')} of the previous daemon")

    def _publish(self, ended_at: float | None = None) -> None:
        state: Json = {
            "schema_version": 1,
            "version": __version__,
            "host": host_name(),
            "pid": os.getpid(),
            "since": self._since,
            "ended_at": ended_at,
            "runs_dir": str(self._runs_dir),
            "alerts": self._alerter is not None,
            "limits": {
                "max_runs": self._limits.max_runs,
                "per_gpu": self._limits.per_gpu,
                "max_restarts": self._settings.max_restarts,
            },
            "gpus": [{"index": i, "name": name} for i, name in enumerate(self._gpu_names)],
            **self._supervisor.report(),
        }
        if state == self._published:
            return
        with contextlib.suppress(OSError):  # a full disk: the next round tries again
            write_json(self._directory.state_path, state, durable=False)
            self._published = state


def _continue(count: int) -> str:
    return f"{plural(count, 'run')} {'continues' if count == 1 else 'continue'}"
