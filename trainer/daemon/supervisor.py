"""Supervises runs: starts queued ones, watches running ones, restarts crashed ones.

`tick` does everything once and never waits for a trainer. A problem with one run is reported and
retried; it does not affect the other runs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from shared.control.idle_run import IdleRun
from shared.control.requests import pending
from shared.errors import UserError
from shared.hub.requests import RequestedUploads
from shared.json_text import Json
from shared.ownership.health import observe
from shared.ownership.heartbeat import read_beat
from shared.ownership.process import host_name
from shared.run.directory import RunDirectory
from shared.run.records import ACTIVE_STATUSES, RunState
from shared.text import one_line, plural
from trainer.daemon.care import RUNNING, STARTING, WAITING, Care, read_care, write_care
from trainer.daemon.endings import record_end, saved_step
from trainer.daemon.events import EventFeed
from trainer.daemon.gpus import GpuDevice
from trainer.daemon.memory import oom_kills
from trainer.daemon.placing import Placing, in_groups, since, waiting_of
from trainer.daemon.policy import History, RestartLimits
from trainer.daemon.requests import Act, Case, Verdict, serve
from trainer.daemon.scan import DirectoryScan, Seen
from trainer.daemon.scheduler import EVERY_GPU, Limits, Waiting, in_order
from trainer.daemon.trouble import RETRY, Troubles
from trainer.daemon.workers import Workers

_FOLDER, _CARE, _QUEUE, _FEED = (
    "/",
    "/care",
    "/queue",
    "/feed",
)  # subjects of trouble other than a run; no run has such a name

Say = Callable[[str], None]


class Supervisor:
    """The runs of one directory under the care of one host's daemon."""

    def __init__(
        self,
        runs_dir: Path,
        care_path: Path,
        limits: Limits,
        restarts: RestartLimits,
        *,
        workers: Workers | None = None,
        gpus: Callable[[], Collection[GpuDevice]] = tuple,
        others: Callable[[], Collection[str]] = tuple,
        feed: EventFeed | None = None,
        say: Say = print,
        host: str | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        count_oom_kills: Callable[[], Mapping[str, int]] = oom_kills,
    ) -> None:
        """`gpus` lists the usable GPUs, `others` the other hosts with a daemon in this directory.

        `count_oom_kills` reads the kernel's counters of processes killed when out of memory.
        """
        self._monotonic = monotonic
        self._count_oom_kills = count_oom_kills
        self._runs_dir = runs_dir
        self._care_path = care_path
        self._limits = limits
        self._restarts = restarts
        self._workers = workers or Workers()
        self._placing = Placing(limits, gpus)
        self._others = others
        self._feed = feed
        self._say = say
        self._host = host or host_name()
        self._clock = clock
        self._scan = DirectoryScan(runs_dir)
        self._seen: Mapping[str, Seen] = {}
        self._cares: dict[str, Care] = read_care(care_path)
        self._written = dict(self._cares)
        self._due: dict[str, float] = {}  # by the monotonic clock
        self._troubles = Troubles(say, monotonic)
        self._draining = False
        self._uploads = RequestedUploads()
        for care in self._cares.values():
            if care.phase == WAITING:
                left = (care.next_start or 0.0) - clock()
                self._due[care.run_id] = self._monotonic() + min(max(0.0, left), 300.0)
            self._follow(self._run(care.run_id))

    # -- what is known -------------------------------------------------------------------

    @property
    def cares(self) -> Mapping[str, Care]:
        """The runs under care by id."""
        return self._cares

    def queue(self) -> list[str]:
        """The ids of the queued runs, in order."""
        waiting = [Waiting(s.run.run_id, "", since(s.state)) for s in self._queued()]
        return [w.run_id for w in in_order(waiting)]

    def report(self) -> Json:
        """The runs under care and the queue, for `state.json`."""
        return {
            "runs": {
                care.run_id: {
                    "status": care.phase,
                    "pid": care.worker.pid if care.worker else None,
                    "gpu": None if care.gpu == EVERY_GPU else care.gpu,
                    "restarts": care.restarts,
                    "max_restarts": self._restarts.max_restarts,
                    "next_start": care.next_start,
                    "reason": care.reason,
                }
                for care in self._cares.values()
            },
            "queue": self.queue(),
        }

    def _run(self, run_id: str) -> RunDirectory:
        return RunDirectory(self._runs_dir / run_id)

    # -- one round -----------------------------------------------------------------------

    def tick(self) -> None:
        """Check everything and do what is due."""
        try:
            self._seen = self._scan.look()
        except OSError as error:
            self._troubles.report(_FOLDER, f"{self._runs_dir} cannot be read: {error.strerror}")
            return
        self._troubles.over(_FOLDER)
        for care in list(self._cares.values()):
            self._troubles.guard(care.run_id, self._watch)
        for seen in self._seen.values():
            if seen.changed and seen.run.run_id not in self._cares:
                self._troubles.guard(seen.run.run_id, self._adopt)
        for seen in self._seen.values():
            if seen.asked:
                self._troubles.guard(seen.run.run_id, self._serve_requests)
        if not self._draining:
            now = self._monotonic()
            for care in list(self._cares.values()):
                if care.phase == WAITING and self._due.get(care.run_id, 0.0) <= now:
                    self._troubles.guard(care.run_id, self._restart)
            self._troubles.guard(_QUEUE, lambda _: self._start_queued())
        if self._feed is not None:
            self._troubles.guard(_FEED, lambda _: self._poll_feed())
        self._remember()

    def _poll_feed(self) -> None:
        assert self._feed is not None
        self._feed.poll([c.run_id for c in self._cares.values() if c.phase == RUNNING])

    def _remember(self) -> None:
        """Store the runs under care if they changed."""
        if self._cares == self._written:
            return
        try:
            write_care(self._care_path, self._cares)
        except OSError as error:
            self._troubles.report(_CARE, f"{self._care_path} cannot be written: {error.strerror}")
        else:
            self._written = dict(self._cares)
            self._troubles.over(_CARE)

    def _put(self, care: Care) -> None:
        self._cares[care.run_id] = care

    def _drop(self, run_id: str) -> None:
        self._cares.pop(run_id, None)
        self._due.pop(run_id, None)
        self._workers.forget(run_id)
        if self._feed is not None:
            self._feed.drop(run_id)

    def _follow(self, run: RunDirectory) -> None:
        if self._feed is not None:
            self._feed.follow(run)

    # -- watching ------------------------------------------------------------------------

    def _watch(self, run_id: str) -> None:
        """Check the worker of a run under care, and act on its end."""
        care, run = self._cares[run_id], self._run(run_id)
        if care.phase == WAITING:
            state = run.read_state() if run_id not in self._seen else self._seen[run_id].state
            if state is None and not run.path.is_dir():
                self._say(f"{run_id}: its directory is gone")
                self._drop(run_id)
            elif state is not None and state.status in ("cancelled", "completed"):
                self._drop(run_id)  # ended by a person while there was no trainer
            return
        gone = self._workers.look(care)
        if gone is None:
            seen = self._seen.get(run_id)
            if care.phase == STARTING and seen and seen.state.attempt > care.attempt:
                self._put(replace(care, phase=RUNNING))
            return
        if not run.path.is_dir():
            self._say(f"{run_id}: its directory is gone")
            self._drop(run_id)
            return
        state = run.read_state() or RunState(run_id=run_id)
        if observe(run, state).alive:
            self._take_over(care, run, state)
            return
        with IdleRun(run) as record:
            outcome = record_end(
                record,
                care,
                gone.code,
                self._restarts,
                self._clock(),
                draining=self._draining,
                oom_kills=self._count_oom_kills(),
            )
        self._say(f"{run_id}: {outcome.said}")
        if outcome.care is None:
            self._drop(run_id)
        else:
            self._put(outcome.care)
            self._due[run_id] = self._monotonic() + outcome.delay

    def _take_over(self, care: Care, run: RunDirectory, state: RunState) -> None:
        """Another process trains a run whose worker is gone: adopt it or leave it alone."""
        beat = read_beat(run.heartbeat_path)
        if beat is None or beat.process == care.worker:
            return  # its last beat is still recent; later rounds decide
        self._drop(run.run_id)
        if self._is_ours(state):
            self._adopt(run.run_id)
        else:
            self._say(f"{run.run_id}: process {beat.process.pid} trains it now and is left alone")

    def _is_ours(self, state: RunState) -> bool:
        return state.supervised and state.status in ACTIVE_STATUSES and state.host == self._host

    def _adopt(self, run_id: str) -> None:
        """Take a running detached run of this host under care."""
        run = self._run(run_id)
        state = run.read_state()
        if state is None or not self._is_ours(state) or not observe(run, state).alive:
            return
        beat = read_beat(run.heartbeat_path)
        if beat is None:
            return
        found = re.match(r"cuda:(\d{1,3})\b", state.device)
        gpu = int(found.group(1)) if found else None
        self._put(
            Care(
                run_id,
                RUNNING,
                worker=beat.process,
                attempt=state.attempt - 1,
                gpu=EVERY_GPU if found and state.ranks > 1 else gpu,
                history=History((), saved_step(state)),
                oom_kills=self._count_oom_kills(),
            )
        )
        self._follow(run)
        self._say(f"{run_id}: adopted, process {beat.process.pid} at step {state.current_step}")

    # -- starting ------------------------------------------------------------------------

    def _restart(self, run_id: str) -> None:
        care, run = self._cares[run_id], self._run(run_id)
        state = run.read_state() or RunState(run_id=run_id)
        if observe(run, state).alive:
            self._drop(run_id)
            self._adopt(run_id)
            return
        self._start(run, care.history, care.gpu)

    def _start(self, run: RunDirectory, history: History | None, gpu: int | None) -> None:
        """Start a worker unless another process was faster.

        Raises LockHeldError, RunError, OSError.
        """
        with IdleRun(run) as record:
            state = record.state
            if state.host not in ("", self._host) and state.host in self._others():
                self._drop(run.run_id)  # the daemon of that host has claimed it
                return
            if state.host != self._host:
                record.update(host=self._host)
        gpu, environment = self._placing.for_start(run, gpu, self._taken())
        care = Care(
            run.run_id,
            STARTING,
            attempt=state.attempt,
            gpu=gpu,
            history=history or History((), saved_step(state)),
            oom_kills=self._count_oom_kills(),
        )
        self._due.pop(run.run_id, None)
        self._put(care)
        self._remember()  # before the process exists, or a kill now would leave it unknown
        self._follow(run)
        try:
            worker = self._workers.start(run, environment)
        except UserError:
            self._put(replace(care, phase=WAITING, next_start=self._clock() + RETRY))
            self._due[run.run_id] = self._monotonic() + RETRY
            raise
        self._put(replace(care, worker=worker))
        where = f", GPU {gpu}" if gpu is not None else ""
        if gpu == EVERY_GPU:
            where = ", every GPU"
        self._say(f"{run.run_id}: started, process {worker.pid}{where}")

    def _taken(self) -> dict[str, int | None]:
        return {care.run_id: care.gpu for care in self._cares.values()}

    def _queued(self) -> list[Seen]:
        waits = [
            seen
            for seen in self._seen.values()
            if seen.state.status == "queued"
            and seen.state.supervised
            and seen.run.run_id not in self._cares
        ]
        if any(seen.state.host not in ("", self._host) for seen in waits):
            others = self._others()
            waits = [seen for seen in waits if seen.state.host not in others]
        return waits

    def _start_queued(self) -> None:
        if len(self._cares) >= self._limits.max_runs:
            return
        queued = {seen.run.run_id: seen for seen in self._queued()}
        if not queued:
            return
        waiting = [waiting_of(seen.run, seen.state) for seen in queued.values()]
        training = in_groups({one.group for one in waiting}, self._seen.values(), self._cares)
        for run_id, gpu in self._placing.place(waiting, self._taken(), training).items():
            self._troubles.guard(run_id, lambda r, gpu=gpu: self._start_one(r, gpu))  # type: ignore[misc]

    def _start_one(self, run_id: str, gpu: int | None) -> None:
        run = self._run(run_id)
        state = run.read_state()
        if state is None or state.status != "queued" or observe(run, state).alive:
            return
        self._start(run, None, gpu)

    # -- requests ------------------------------------------------------------------------

    def _serve_requests(self, run_id: str) -> None:
        """Answer the requests to a run without a trainer."""
        run, state = self._run(run_id), self._seen[run_id].state
        care = self._cares.get(run_id)
        if care is not None and care.phase != WAITING:
            return  # its worker answers, now or after its start
        if state.status == "queued" and not state.supervised:
            return  # another process is about to start it
        if state.host not in ("", self._host) and state.host in self._others():
            return
        if observe(run, state).alive:
            return
        start = False
        with IdleRun(run) as record:
            for request in pending(run.control):
                state, care = record.state, self._cares.get(run_id)
                verdict = serve(
                    Case(
                        idle=record,
                        status=observe_dead(state),
                        request=request,
                        care=care,
                        full=self._full(run),
                    )
                )
                if verdict.act is Act.UPLOAD or self._uploads.knows(request):
                    answer = self._uploads.answer(run, request)
                    if answer is None:
                        continue
                    verdict = Verdict(*answer)
                if verdict.ok is None:
                    start = not self._draining
                    break
                who = one_line(request.asked_by, 80)
                if verdict.act is Act.CANCEL:
                    record.end("cancelled", 0, f"{verdict.message} on request of {who}")
                    self._drop(run_id)
                elif verdict.act is Act.QUEUE:
                    record.queue()
                record.answer(request, ok=verdict.ok, message=verdict.message)
                action = one_line(request.action, 40)
                self._say(f"{run_id}: {action} of {who}: {one_line(verdict.message, 300)}")
        if start:
            care = self._cares.get(run_id)
            self._start(run, care.history if care else None, care.gpu if care else None)

    def _full(self, run: RunDirectory) -> str:
        """Why `run` cannot be started now; empty if it can."""
        if self._draining:
            return "the daemon is about to end"
        most = self._limits.max_runs
        if len(self._cares) >= most:
            return f"{len(self._cares)} of at most {plural(most, 'run')} training"
        waiting = waiting_of(run, run.read_state() or RunState())
        training = in_groups({waiting.group}, self._seen.values(), self._cares)
        if self._placing.place([waiting], self._taken(), training):
            return ""
        if waiting.is_held_back(training):
            group_most = plural(waiting.group_limit or 1, "run")
            return f"at most {group_most} of group {one_line(waiting.group, 60)} at the same time"
        return "its GPU is taken"

    # -- the end -------------------------------------------------------------------------

    def drain(self) -> int:
        """Ask every worker to save and end, and start nothing more. Returns their number."""
        self._draining = True
        living = [care for care in self._cares.values() if care.phase != WAITING]
        for care in living:
            self._workers.terminate(care)
        return len(living)

    def close(self) -> None:
        """Abort running uploads; their requests stay for the next daemon."""
        self._uploads.stop()

    def living(self) -> list[str]:
        """The ids of the runs with a living worker."""
        return [care.run_id for care in self._cares.values() if care.phase != WAITING]


def observe_dead(state: RunState) -> str:
    """The status of a run that no process owns."""
    return "crashed" if state.status in ACTIVE_STATUSES else state.status
