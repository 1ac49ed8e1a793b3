"""Uploads asked for by a request: of a dead run by the daemon, of a living one by its trainer."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from shared.control.requests import submit
from shared.run.directory import RunDirectory, discover_runs
from shared.run.record_lines import read_records
from tests.hub_server import HubServer
from tests.waiting import SECONDS, until
from trainer.daemon.policy import RestartLimits
from trainer.daemon.scheduler import Limits
from trainer.daemon.supervisor import Supervisor


def answer_to(run: RunDirectory, request: str) -> Any:
    events = read_records(run.events_path)
    return next((e for e in events if e.get("event") == "answer" and e["request"] == request), None)


def test_the_daemon_uploads_what_nobody_trains(run: RunDirectory, hub: HubServer) -> None:
    runs_dir = run.path.parent
    supervisor = Supervisor(
        runs_dir, runs_dir / "care.json", Limits(1, 1), RestartLimits(), say=lambda _line: None
    )
    request = submit(run.control, "upload", {"repo": "asked", "private": True})
    refused = submit(run.control, "upload", {"endpoint": "http://evil.example"})

    def is_answered() -> bool:
        supervisor.tick()
        return bool(answer_to(run, request) and answer_to(run, refused))

    def is_recorded() -> bool:  # by another request, where somebody held the run just then
        supervisor.tick()
        state = run.read_state()
        return state is not None and state.hub_repo is not None

    until(is_answered)
    until(is_recorded)
    supervisor.close()
    told = answer_to(run, request)
    assert told["ok"], told
    assert "ada/asked" in told["message"]
    assert not answer_to(run, refused)["ok"]
    assert (run.read_state() or 0).hub_repo == "ada/asked"  # type: ignore[union-attr]
    assert any(e.get("event") == "uploaded" for e in read_records(run.events_path))


def test_a_trainer_uploads_while_it_trains(
    hub: HubServer, tmp_path: Path, token_data: Path, run_cli: Any
) -> None:
    where = tmp_path / "runs"
    shape = ("hidden_size=16", "num_layers=1", "num_heads=2")
    small = [part for value in shape for part in ("--set", f"model.{value}")]
    line = ["--name", "live", "--runs-dir", where, "--data-path", token_data, "--threads", "1"]
    times = ["--max-steps", "1000000", "--checkpoint-interval", "20", "--eval-interval", "1000000"]
    seen: dict[str, Any] = {}

    def ask() -> None:
        """From another thread: a trainer listens to signals, and so has the main one."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and "stop" not in seen:
            time.sleep(0.05)
            found = discover_runs(where) if where.is_dir() else []
            state = found[0].read_state() if found else None
            if state is None or state.latest_checkpoint is None:
                continue
            seen.setdefault("run", found[0])
            if "request" not in seen:
                seen["request"] = submit(found[0].control, "upload", {"repo": "live"})
                seen["from"] = state.current_step
            elif answer_to(found[0], seen["request"]) and state.hub_repo:
                seen["to"] = state.current_step
                seen["stop"] = submit(found[0].control, "stop")
        if "run" in seen:
            seen["stop"] = submit(seen["run"].control, "stop")

    thread = threading.Thread(target=ask)
    thread.start()
    run_cli("train", *line, *small, *times, "--log-interval", "100000")
    thread.join()
    told = answer_to(seen["run"], seen["request"])
    assert told["ok"], told
    assert seen["to"] > seen["from"], "training goes on meanwhile"
    assert seen["run"].read_state().hub_repo == "ada/live"
