"""Runs of another host, through a fake ssh that runs the host's side here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shared.errors import UserError
from shared.ownership.heartbeat import BeatWatch
from shared.remote.acting import Wish, carry_out
from shared.remote.address import parse_address
from shared.remote.watching import remote_runs
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.shared.remote.conftest import program
from tests.waiting import until

ROOT = Path(__file__).parents[3]
LINES = "".join(f'{{"step":{n},"loss":{n}.5}}\n' for n in range(20_000))


def address(folder):
    return parse_address(f"ssh://box{folder}")


@pytest.mark.parametrize("ours", [True, False], ids=["train-monitor", "agent"])
def test_a_run_is_followed_through_growth_replacement_and_a_lost_link(tmp_path, hosts, ours):
    hosts(ours=ours)
    runs = tmp_path / "runs"
    with RunWriter(runs, name="live", max_steps=10) as writer:
        writer.log(1, loss=2.0)
        metrics = writer.run.metrics_path
        with remote_runs([address(runs)]) as elsewhere:
            copy = RunDirectory(elsewhere.folder / writer.run.run_id)
            elsewhere.catch_up()
            assert copy.metrics_path.read_bytes() == metrics.read_bytes()
            state = copy.read_state()
            judged = elsewhere.health(copy, state, time.time(), BeatWatch())
            assert (judged.alive, judged.status) == (True, state.status)
            elsewhere.start()
            writer.log(2, loss=1.0)
            until(lambda: copy.metrics_path.read_bytes() == metrics.read_bytes())
            # The child dies in the middle; nothing is lost or doubled.
            elsewhere.hosts[0].break_link()
            with metrics.open("a") as file:
                file.write(LINES)
            until(lambda: copy.metrics_path.read_bytes() == metrics.read_bytes())
            assert elsewhere.health(copy, state, time.time(), BeatWatch()).alive
            until(lambda: not elsewhere.problem)
            metrics.write_text('{"step":1,"loss":9}\n')
            until(lambda: copy.metrics_path.read_bytes() == metrics.read_bytes())
        assert not elsewhere.folder.exists()


def test_leaving_while_it_connects_again_leaves_no_ssh_behind(tmp_path, hosts):
    folder = hosts(ours=False)
    with remote_runs([address(tmp_path)]) as elsewhere:
        told = tmp_path / "pid"
        program(
            folder / "ssh",
            f"#!/bin/sh\necho $$ > {told}.new\nmv {told}.new {told}\nexec sleep 60\n",
        )
        elsewhere.start()
        elsewhere.hosts[0].break_link()
        until(told.exists)
    pid = int(told.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_error_of_any_kind_is_a_lost_link_not_an_old_picture(tmp_path, hosts, monkeypatch):
    hosts(ours=False)
    with remote_runs([address(tmp_path)]) as elsewhere:
        host = elsewhere.hosts[0]

        def fail(*_: object) -> bool:
            raise KeyError("what")

        monkeypatch.setattr(host.mirror, "step", fail)
        elsewhere.start()
        until(lambda: "connecting again" in elsewhere.problem)


def test_what_cannot_be_watched_is_said_in_a_sentence(tmp_path, hosts):
    folder = hosts(ours=False)
    with pytest.raises(UserError, match="No such file"), remote_runs([address(tmp_path / "no")]):
        pass
    (folder / "ssh").write_text("#!/bin/sh\nexit 255\n")
    with (
        pytest.raises(UserError, match="could not connect to box"),
        remote_runs([address(tmp_path)]),
    ):
        pass
    (folder / "ssh").write_text("#!/bin/sh\nexit 127\n")
    with pytest.raises(UserError, match="neither"), remote_runs([address(tmp_path)]):
        pass


def test_the_monitor_reports_runs_of_several_hosts(tmp_path, hosts):
    hosts(ours=False)
    with RunWriter(tmp_path, name="one", max_steps=2) as writer:
        writer.log(1, loss=2.0)
        where = [f"ssh://{host}{tmp_path}" for host in ("left", "right")]
        command = [sys.executable, "-m", "monitor", "--json", *where]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    name = writer.run.run_id
    assert {run["run_id"] for run in told["runs"]} == {f"left:{name}", f"right:{name}"}
    assert {(run["status"], run["alive"]) for run in told["runs"]} == {("running", True)}
    assert told["runs_dir"] == " ".join(where)


@pytest.mark.parametrize(
    ("program_there", "told"),
    [
        (None, "has no train-monitor"),
        ("echo 'unrecognized arguments: --serve' >&2; exit 2", "too old to serve"),
        ("echo Traceback >&2; exit 1", "does not start"),
    ],
    ids=["none", "old", "broken"],
)
def test_a_host_that_cannot_serve_is_watched_and_says_why(tmp_path, hosts, program_there, told):
    folder = hosts(ours=False)
    if program_there:
        program(folder / "train-monitor", f"#!/bin/sh\n{program_there}\n")
    (tmp_path / "runs").mkdir()
    with remote_runs([address(tmp_path / "runs")]) as elsewhere:
        host = elsewhere.hosts[0]
        assert told in host.why_not("stop")
        assert told in elsewhere.notice
        assert told in elsewhere.why_only_watched(None, "undo")
        assert not host.has_figures


def test_an_action_survives_the_end_of_its_ssh(tmp_path, hosts):
    hosts(ours=True)
    with RunWriter(tmp_path / "runs", name="live", max_steps=10) as writer:
        writer.log(1, loss=2.0)
        with remote_runs([address(tmp_path / "runs")]) as elsewhere:
            host = elsewhere.hosts[0]
            elsewhere.start()
            broken = threading.Event()

            def pause(seconds: float) -> bool:
                """The trainer answers only after the link has ended."""
                if not broken.is_set():
                    broken.set()
                    host.break_link()
                    until(lambda: writer.waiting_requests > 0)
                    for request in writer.take_requests():
                        writer.answer(request, ok=True, message="paused at step 1")
                return time.sleep(seconds) or False

            told = carry_out(host, Wish("pause", writer.run.run_id, {}), pause=pause)
    assert told.endswith("paused at step 1")
    assert broken.is_set()
