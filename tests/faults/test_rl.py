"""A run with rewards that a daemon cares for: killed, paused, out of memory, and not lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.control.daemons import DaemonDirectory
from shared.run.directory import RunDirectory
from tests.faults import rl_faults
from tests.faults.forking import ForkServer
from tests.trainer.daemon.conftest import ask, events_of, state_of
from tests.trainer.loop.test_rl import Rl, base, comparable, prompts, records, rl
from tests.waiting import until
from trainer.daemon.policy import RestartLimits
from trainer.daemon.scheduler import Limits
from trainer.daemon.supervisor import Supervisor
from trainer.daemon.workers import Workers

__all__ = ["base", "prompts", "rl"]


@dataclass
class Worker:
    """A forked trainer."""

    server: ForkServer
    pid: int
    code: int | None = None

    def poll(self) -> int | None:
        if self.code is None and self._has_ended():
            self.code = self.server.wait(self.pid)
        return self.code

    def _has_ended(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_daemon_brings_it_to_its_end(rl: Rl, server: ForkServer, tmp_path: Path) -> None:
    """Four steps in each of four iterations. It is killed while answers are judged and within an
    iteration, paused while prompts are answered, and runs out of memory in its last step; what it
    learned until then is what an undisturbed run learns.
    """
    flags = (
        "--epochs",
        2,
        "--batch-size",
        4,
        "--accumulation-steps",
        1,
        "--checkpoint-interval",
        1,
    )
    _, whole = rl(*flags)
    output, run = rl(*flags, "--queue")
    assert output.code == 0, output.err
    assert state_of(run).status == "queued"
    faults = tmp_path / "faults"
    faults.mkdir()
    for fault in ("kill-judging", "kill-at-7", "pause-at-9", "oom-at-16"):
        (faults / fault).touch()

    def start(run: RunDirectory, environment: Mapping[str, str]) -> Worker:
        pid = server.start(
            "resume",
            str(run.path),
            output=str(tmp_path / "console"),
            environment={**environment, rl_faults.FAULTS: str(faults)},
            hooks="tests.faults.rl_faults:hooks",
        )
        return Worker(server, pid)

    care = DaemonDirectory.of(tmp_path / "runs").care_path
    care.parent.mkdir(parents=True)
    at_once = RestartLimits(first_delay=0.01, requeue_delay=0.01)
    said: list[str] = []
    supervisor = Supervisor(
        tmp_path / "runs", care, Limits(1), at_once, workers=Workers(start), say=said.append
    )

    def reached(*statuses: str) -> bool:
        supervisor.tick()
        return state_of(run).status in statuses

    until(lambda: reached("paused", "completed", "failed"), what=lambda: said)
    assert state_of(run).status == "paused", said
    assert state_of(run).current_step == 8, "the step before the answers"
    saved = ask(run, "checkpoint")
    until(saved)
    assert saved()["message"] == "saved step_8"  # type: ignore[index]
    ask(run, "resume")
    until(lambda: reached("completed", "failed"), what=lambda: said)
    assert state_of(run).status == "completed", said
    assert not list(faults.iterdir()), "every fault has struck"
    assert state_of(run).attempt == 3
    ends = [event["message"] for event in events_of(run, "crashed")]
    assert ["SIGKILL" in end for end in ends] == [True, True], ends
    ours = {record["step"]: record for record in comparable(run)}
    theirs = {record["step"]: record for record in comparable(whole)}
    last = (ours.pop(16), theirs.pop(16))
    assert json.dumps(ours) == json.dumps(theirs)
    assert last[0]["loss"] == pytest.approx(last[1]["loss"], abs=1e-5), "in smaller micro-batches"
    assert [record["step"] for record in records(run)].count(5) == 2, "from the iteration's start"
