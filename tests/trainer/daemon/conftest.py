"""Supervisors with workers of our own: real processes that write a run's files and train nothing.

What a worker does is in `worker.json` of its run: a list with one plan for each attempt.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from shared.control.daemons import DaemonDirectory
from shared.control.requests import submit
from shared.files import write_json
from shared.json_text import Json
from shared.ownership.process import host_name
from shared.run.directory import RunDirectory, create_run
from shared.run.record_lines import read_records
from shared.run.records import RunState
from tests.waiting import until
from trainer.daemon.policy import RestartLimits
from trainer.daemon.scheduler import Limits
from trainer.daemon.supervisor import Supervisor
from trainer.daemon.workers import Workers

WORKER = """
import json, os, signal, sys, time
from pathlib import Path
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter

run = RunDirectory(Path(sys.argv[1]))
plans = json.loads((run.path / "worker.json").read_text())
starts = run.path / "starts"
number = len(starts.read_text().split()) if starts.exists() else 0
with starts.open("a") as file:
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "-")
    file.write(f"{gpu}:{os.environ['TRAINER_SUPERVISED']}\\n")
plan = plans[min(number, len(plans) - 1)]
if "refuse" in plan:
    print("first line")
    print(plan.get("words", "it does not start"))
    sys.exit(plan["refuse"])
received = []
signal.signal(signal.SIGTERM, lambda *_: received.append(1))
writer = RunWriter(run=run, supervised=True)
writer.set_status("running")
writer.log(plan.get("step", 1), loss=1.0)
if "save" in plan:
    writer.update(latest_checkpoint=f"step_{plan['save']}", durable=True)
while plan.get("wait") and not (run.path / "go").exists():
    if received:
        writer.finish("preempted", 75, "SIGTERM received")
        sys.exit(75)
    for request in writer.take_requests():
        writer.answer(request, ok=True, message=f"{request.action} served")
        if request.action == "stop":
            writer.finish("cancelled", 0, "stopped")
            sys.exit(0)
    time.sleep(0.01)
if "kill" in plan:
    writer.update(durable=True)
    os.kill(os.getpid(), plan["kill"])
end, code = plan.get("end", "completed"), plan.get("code", 0)
writer.finish(end, code, plan.get("reason", "as planned"), final=plan.get("final", False))
sys.exit(code)
"""


class Children:
    """A launcher that remembers what it started, and has a bug for the runs in `broken`."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.broken: set[str] = set()

    def __call__(
        self, run: RunDirectory, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        if run.run_id in self.broken:
            raise ZeroDivisionError
        with run.log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", WORKER, str(run.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )
        self.processes.append(process)
        return process


@dataclass
class House:
    """A runs directory with a supervisor, and what it said."""

    runs_dir: Path
    children: Children
    said: list[str] = field(default_factory=list)
    restarts: RestartLimits = field(default_factory=RestartLimits)
    later: float = 0.0  # seconds that the supervisor's clock is ahead
    supervisor: Supervisor = None  # type: ignore[assignment]

    def supervise(self, *, max_runs: int = 8, max_restarts: int = 5, **options: Any) -> Supervisor:
        """A supervisor, as a new daemon has it."""
        directory = DaemonDirectory.of(self.runs_dir, options.get("host"))
        directory.path.mkdir(parents=True, exist_ok=True)
        self.supervisor = Supervisor(
            self.runs_dir,
            directory.care_path,
            Limits(max_runs, options.pop("per_gpu", 1)),
            replace(self.restarts, max_restarts=max_restarts),
            workers=Workers(self.children),
            say=self.said.append,
            monotonic=lambda: time.monotonic() + self.later,
            **options,
        )
        return self.supervisor

    def run(self, name: str = "r", *plans: Json, config: str = "", **state: Any) -> RunDirectory:
        """A run that is queued for a daemon, or as `state` says; `plans` are its attempts'."""
        run = create_run(self.runs_dir, name)
        (run.path / "worker.json").write_text(json.dumps(plans or [{}]))
        run.config_path.write_text(config or "train: {device: cpu, batch_size: 8}\n")
        fields = {"status": "queued", "supervised": True, "updated_at": time.time(), **state}
        record = RunState(run_id=run.run_id, run_name=name, **fields)
        write_json(run.state_path, record.to_json())
        return run

    def dead(self, name: str = "dead", *plans: Json, **state: Any) -> RunDirectory:
        """A run of this host that was killed."""
        known = {"status": "running", "attempt": 1, "current_step": 7, "host": host_name()}
        return self.run(name, *plans, **{**known, **state})

    def until(self, condition: Callable[[], Any]) -> Any:
        """Let the supervisor do its rounds until `condition` holds."""

        def after_a_round() -> Any:
            self.supervisor.tick()
            return condition()

        return until(after_a_round, what=lambda: self.said)

    def until_left_alone(self, run: RunDirectory) -> RunState:
        """Until `run` is under care no more and not queued; its state then."""
        self.until(
            lambda: run.run_id not in self.supervisor.cares and state_of(run).status != "queued"
        )
        return state_of(run)


def state_of(run: RunDirectory) -> RunState:
    """The state, which must be there."""
    state = run.read_state()
    assert state is not None
    return state


def events_of(run: RunDirectory, kind: str) -> list[Json]:
    """The events of that kind."""
    return [e for e in read_records(run.events_path) if e.get("event") == kind]


def starts_of(run: RunDirectory) -> list[str]:
    """What each worker of a run was started with: `CUDA_VISIBLE_DEVICES:TRAINER_SUPERVISED`."""
    path = run.path / "starts"
    return path.read_text().split() if path.exists() else []


def ask(run: RunDirectory, action: str, **arguments: Any) -> Callable[[], Json | None]:
    """Leave a request; returns what looks for its answer."""
    request = submit(run.control, action, arguments)

    def look() -> Json | None:
        return next((e for e in events_of(run, "answer") if e["request"] == request), None)

    return look


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """An empty runs directory with a supervisor."""
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    children = Children()
    made = House(runs_dir, children)
    made.supervise()
    yield made
    for process in children.processes:
        process.kill()
        process.wait()


@pytest.fixture
def quick(house: House) -> None:
    """Restarts come at once."""
    house.restarts = RestartLimits(first_delay=0.01, requeue_delay=0.01)
    house.supervise()


@pytest.fixture
def slow(house: House) -> None:
    """Restarts come in five minutes."""
    house.restarts = RestartLimits(first_delay=300.0)
    house.supervise()
