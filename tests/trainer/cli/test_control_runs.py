"""Looking at runs and steering them from the command line, with and without a daemon."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.control.daemons import DaemonDirectory
from shared.files import write_json
from shared.ownership.heartbeat import HeartbeatFile
from shared.ownership.lock import RunLock
from shared.ownership.process import host_name
from shared.run.directory import RunDirectory, create_run, discover_runs
from shared.run.record_lines import read_records
from shared.run.records import RunState
from shared.run_writer import RunWriter
from tests.waiting import SECONDS
from trainer.cli.runs.status import format_table
from trainer.daemon.supervisor import Supervisor
from trainer.loop.hooks import Hooks


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def make(runs_dir: Path, name: str, **state: Any) -> RunDirectory:
    run = create_run(runs_dir, name)
    write_json(run.state_path, RunState(run_id=run.run_id, run_name=name, **state).to_json())
    return run


def state_of(run: RunDirectory) -> RunState:
    state = run.read_state()
    assert state is not None
    return state


@pytest.fixture
def trained(runs_dir: Path) -> Iterator[Callable[[str], RunWriter]]:
    """Runs with a trainer that answers `stop`, each in a thread of its own."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve(writer: RunWriter) -> None:
        while not over.wait(0.01):
            for request in writer.take_requests():
                if request.action == "stop":
                    writer.answer(request, ok=True, message="stopping after step 3")
                    writer.finish("cancelled", 0, "stopped")
                    return
                writer.answer(request, ok=False, message=f"no {request.action} today")
        writer.finish("completed")

    def start(name: str) -> RunWriter:
        writer = RunWriter(runs_dir, name, max_steps=10)
        writer.set_status("running")
        writer.log(3, loss=1.5, tokens_per_second=2000.0)
        writer.update(durable=True)
        threads.append(threading.Thread(target=serve, args=(writer,)))
        threads[-1].start()
        return writer

    yield start
    over.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def daemon(runs_dir: Path) -> Iterator[Callable[..., DaemonDirectory]]:
    """What a daemon at work shows of itself, said by this process."""
    held: list[Any] = []

    def pretend(**state: Any) -> DaemonDirectory:
        directory = DaemonDirectory.of(runs_dir)
        directory.control.mkdir(parents=True)
        lock = RunLock(directory.lock_path)
        lock.acquire()
        beat = HeartbeatFile(directory.heartbeat_path)
        beat.beat()
        held.extend((lock.release, beat.close))
        write_json(directory.state_path, state)
        return directory

    yield pretend
    for release in held:
        release()


# -- status ------------------------------------------------------------------------------


def test_the_table_says_what_each_run_does(run_cli, runs_dir: Path, trained, daemon) -> None:  # type: ignore[no-untyped-def]
    trained("alive")
    make(runs_dir, "crashed", status="running", attempt=2, current_step=5, max_steps=10)
    first = make(runs_dir, "first", supervised=True, updated_at=1.0)
    second = make(runs_dir, "second", supervised=True, updated_at=2.0)
    waiting = make(runs_dir, "waiting", status="running", current_step=7)
    care = {
        "status": "waiting",
        "next_start": time.time() + 12.4,
        "restarts": 2,
        "max_restarts": 5,
        "reason": "killed by SIGKILL at step 7",
    }
    daemon(runs={waiting.run_id: care}, queue=[first.run_id, second.run_id])
    output = run_cli("status", "--runs-dir", runs_dir)
    assert output.code == 0
    head, columns, *rows = output.out.splitlines()
    assert f"daemon on {host_name()} (this host): process {os.getpid()}" in head
    assert "2 queued" in head
    assert columns.split()[:3] == ["run", "status", "steps"]
    text = {row.split("_")[0]: row for row in rows}
    assert re.search(r"alive_\S+ +running +3/10 30% +1\.5000", text["alive"])
    assert "is gone without" in text["crashed"]
    assert "queued, next" in text["first"]
    assert "queued behind 1" in text["second"]
    assert re.search(r"crashed .*restart in \d+ s \(2 of 5\)", text["waiting"])
    alone = run_cli("status", waiting.run_id, "--runs-dir", runs_dir).out.splitlines()
    assert len(alone) == 3
    assert "killed by SIGKILL" in run_cli("status", waiting.path).out


@pytest.mark.parametrize("width", ["40", "80", "120", "200"])
def test_the_table_fits(  # type: ignore[no-untyped-def]
    run_cli, runs_dir: Path, trained, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    trained("a-run-with-a-rather-long-name-for-a-table")
    make(runs_dir, "evil\x1b[2J", status="fa\x1b[2Jiled", alarm="\x1b[2J" * 50)
    lines = run_cli("status", "--runs-dir", runs_dir).out.splitlines()[1:]
    assert max(map(len, lines)) <= int(width)
    assert "\x1b" not in "".join(lines)
    assert "status" in lines[0]


def test_a_wide_table_leaves_nothing_out() -> None:
    row = dict.fromkeys(
        ["run", "status", "steps", "loss", "best", "tok/s", "ETA", "try", "where", "note"], "x"
    )
    assert format_table([row], 100)[0].split() == list(row)


def test_mfu_is_shown_where_it_is_known(run_cli, runs_dir: Path, trained) -> None:  # type: ignore[no-untyped-def]
    writer = trained("alive")
    assert "MFU" not in run_cli("status", "--runs-dir", runs_dir).out
    writer.log(4, loss=1.4, mfu=0.4567)
    writer.update(durable=True)
    assert "45.7%" in run_cli("status", "--runs-dir", runs_dir).out
    writer.log(5, loss=1.4, mfu=None)  # a device of which no peak is known
    writer.update(durable=True)
    assert "MFU" not in run_cli("status", "--runs-dir", runs_dir).out


def test_programs_are_told_everything(run_cli, runs_dir: Path, trained) -> None:  # type: ignore[no-untyped-def]
    trained("alive")
    make(runs_dir, "queued", supervised=True)
    values = json.loads(run_cli("status", "--runs-dir", runs_dir, "--json").out)
    alive, queued = sorted(values, key=lambda v: v["run_id"])
    assert (alive["status"], alive["alive"], alive["step"], alive["loss"]) == (
        "running",
        True,
        3,
        1.5,
    )
    assert alive["tokens_per_second"] == 2000.0
    assert {"attempt", "host", "pid", "device", "best_loss", "exit", "note"} <= alive.keys()
    assert (queued["queued_behind"], queued["care"]) == (0, None)


def test_without_runs_or_a_daemon(run_cli, runs_dir: Path) -> None:  # type: ignore[no-untyped-def]
    output = run_cli("status", "--runs-dir", runs_dir)
    assert output.code == 0
    assert "no daemon" in output.out
    assert "holds no runs yet" in output.out


# -- stop --------------------------------------------------------------------------------


def test_all_are_stopped(run_cli, runs_dir: Path, trained) -> None:  # type: ignore[no-untyped-def]
    writers = [trained(f"r{n}") for n in range(3)]
    queued = make(runs_dir, "queued", supervised=True)
    ended = make(runs_dir, "ended", status="completed")
    about = make(runs_dir, "about-to-start")
    output = run_cli("stop", "--all", "--runs-dir", runs_dir)
    assert output.code == 0, output.err
    for writer in writers:
        assert f"{writer.run.run_id}: stopping after step 3\n" in output.out
        assert f"{writer.run.run_id}: cancelled\n" in output.out
        assert state_of(writer.run).status == "cancelled"
    assert f"{queued.run_id}: cancelled\n" in output.out
    assert state_of(queued).status == "cancelled"
    assert state_of(ended).status == "completed"
    assert state_of(about).status == "queued"
    again = run_cli("stop", "--all", "--runs-dir", runs_dir)
    assert again.code == 0
    assert "no run is training" in again.out


def test_a_run_that_waits_is_not_started_by_the_next_daemon(run_cli, runs_dir: Path) -> None:  # type: ignore[no-untyped-def]
    run = make(runs_dir, "waits", status="running", attempt=1, current_step=4)
    directory = DaemonDirectory.of(runs_dir)
    directory.path.mkdir(parents=True)
    write_json(directory.care_path, {"runs": {run.run_id: {"phase": "waiting"}}})
    output = run_cli("stop", run.run_id, "--runs-dir", runs_dir)
    assert output.code == 0, output.err
    assert state_of(run).status == "cancelled"
    again = run_cli("stop", run.run_id, "--runs-dir", runs_dir)
    assert again.code == 2
    assert "cancelled: no process" in again.err


def test_a_daemon_is_asked_where_there_is_one(run_cli, runs_dir: Path, daemon) -> None:  # type: ignore[no-untyped-def]
    directory = daemon()
    run = make(runs_dir, "queued", supervised=True)
    from trainer.daemon.policy import RestartLimits
    from trainer.daemon.scheduler import Limits

    supervisor = Supervisor(
        runs_dir, directory.care_path, Limits(0), RestartLimits(), say=lambda _: None
    )
    over = threading.Event()

    def rounds() -> None:
        while not over.wait(0.02):
            supervisor.tick()

    thread = threading.Thread(target=rounds)
    thread.start()
    try:
        output = run_cli("stop", run.run_id, "--runs-dir", runs_dir)
    finally:
        over.set()
        thread.join()
    assert output.code == 0, output.err
    assert output.out == f"{run.run_id}: taken out of the queue\n{run.run_id}: cancelled\n"


def test_what_to_stop_must_be_said(run_cli, runs_dir: Path) -> None:  # type: ignore[no-untyped-def]
    assert run_cli("stop", "--runs-dir", runs_dir).code == 2
    assert run_cli("stop", "x", "--all", "--runs-dir", runs_dir).code == 2
    assert run_cli("stop", "--all", "--runs-dir", runs_dir / "none").code == 2


def test_a_refusal_is_a_failure(run_cli, trained) -> None:  # type: ignore[no-untyped-def]
    run = trained("alive").run
    output = run_cli("pause", run.path)
    assert output.code == 1
    assert "no pause today" in output.err


# -- logs --------------------------------------------------------------------------------


def test_the_last_lines_of_a_log(run_cli, runs_dir: Path) -> None:  # type: ignore[no-untyped-def]
    run = make(runs_dir, "x", status="completed")
    missing = run_cli("logs", run.path)
    assert missing.code == 2
    assert "no log yet" in missing.err
    text = "".join(f"line {n}\n" for n in range(100)) + "evil\x1b[2J\n10%\r20%\ntorn"
    run.log_path.write_text(text)
    assert run_cli("logs", run.path, "-n", 4).out == "line 99\nevil[2J\n10%\n20%\n"
    assert run_cli("logs", run.path).out.count("\n") == 20
    assert run_cli("logs", run.path, "-n", 0).out == ""
    assert run_cli("logs", run.path, "-n", -1).code == 2
    assert run_cli("logs", "gone", "--runs-dir", runs_dir).code == 2


def test_following_ends_with_the_run(run_cli, runs_dir: Path, trained) -> None:  # type: ignore[no-untyped-def]
    writer = trained("x")
    writer.say("before")
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", "logs", str(writer.run.path), "-f"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "before\n"
    writer.say("after")
    assert process.stdout.readline() == "after\n"
    assert run_cli("stop", writer.run.path).code == 0
    out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (0, "")
    assert err == f"{writer.run.run_id} has ended, cancelled: stopped\n"


def test_following_ends_quietly_when_nobody_reads_or_on_ctrl_c(trained) -> None:  # type: ignore[no-untyped-def]
    writer = trained("x")
    writer.say("before")
    for interrupt in (True, False):
        process = subprocess.Popen(
            [sys.executable, "-m", "trainer", "logs", str(writer.run.path), "-f"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "before\n"
        if interrupt:
            process.send_signal(signal.SIGINT)
        else:
            process.stdout.close()
            writer.say("nobody reads this")
        assert process.wait(timeout=SECONDS) == (0 if interrupt else 1)
        assert process.stderr.read() == ""
        process.stderr.close()
        process.stdout.close()


# -- queueing ----------------------------------------------------------------------------


def test_queueing_checks_what_detaching_checks(run_cli, runs_dir: Path, tiny) -> None:  # type: ignore[no-untyped-def]
    wrong = run_cli("train", *tiny, "--runs-dir", runs_dir, "--queue", "--device", "tpu")
    assert wrong.code == 2
    assert "'tpu'" in wrong.err
    both = run_cli("train", *tiny, "--runs-dir", runs_dir, "--queue", "--detach")
    assert both.code == 2
    assert discover_runs(runs_dir) == []


def test_a_queued_run_tells_who_starts_it(run_cli, runs_dir: Path, tiny, daemon) -> None:  # type: ignore[no-untyped-def]
    flags = ("train", *tiny, "--runs-dir", runs_dir, "--queue", "--max-steps", 3)
    first = run_cli(*flags, "--name", "one")
    assert first.code == 0, first.err
    assert re.search(r"one_\S+ is queued\n", first.out)
    assert f"trainer daemon --runs-dir {runs_dir} --detach" in first.out
    daemon()
    second = run_cli(*flags, "--name", "two")
    assert re.search(r"two_\S+ is queued, behind 1\n", second.out)
    assert f"started by: the daemon on this host (process {os.getpid()})" in second.out
    for run in discover_runs(runs_dir):
        state = state_of(run)
        assert (state.status, state.supervised, state.host) == ("queued", True, "")


def test_an_ended_run_is_queued_with_its_new_settings(run_cli, finished, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = RunDirectory(finished())
    refused = run_cli("resume", run.path, "--queue")
    assert refused.code == 2
    assert state_of(run).status == "completed"
    assert run_cli("resume", run.path, "--queue", "--max-steps", 6, "--from", "step_2").code == 2
    output = run_cli("resume", run.path, "--queue", "--max-steps", 6)
    assert output.code == 0, output.err
    state = state_of(run)
    assert (state.status, state.supervised, state.max_steps) == ("queued", True, 6)
    assert state.exit is None
    assert state.current_step == 4
    assert "max_steps: 6" in run.config_path.read_text()
    events = [e for e in read_records(run.events_path) if e["event"] == "status"]
    assert (events[-1]["status"], events[-1]["previous"]) == ("queued", "completed")
    assert run_cli("resume", run.path).code == 0
    assert state_of(run).status == "completed"
    assert state_of(run).current_step == 6
    assert not state_of(run).supervised, "a person's own"


def test_a_checkpoint_to_begin_from_survives_in_the_queue(
    run_cli, finished, tmp_path: Path, runs_dir: Path
) -> None:  # type: ignore[no-untyped-def]
    import shutil

    done = RunDirectory(finished("done"))
    elsewhere = tmp_path / "elsewhere" / "step_4"
    shutil.copytree(done.checkpoints / "step_4", elsewhere)
    shutil.rmtree(done.path)
    flags = ("--resume", elsewhere, "--max-steps", 6, "--runs-dir", runs_dir)
    output = run_cli("train", *flags, "--queue")
    assert output.code == 0, output.err
    [run] = discover_runs(runs_dir)
    assert f"begin_from: {elsewhere}" in run.config_path.read_text()
    assert run_cli("resume", run.path).code == 0
    [resumed] = [e for e in read_records(run.events_path) if e["event"] == "resumed"]
    assert (resumed["checkpoint"], resumed["step"]) == ("step_4", 4)
    assert state_of(run).current_step == 6
    shutil.rmtree(elsewhere)
    assert run_cli("resume", run.path, "--max-steps", 7).code == 0, "it has its own by now"


# -- refusals ----------------------------------------------------------------------------

REFUSED = """
import contextlib, io, json, os, resource, sys
from trainer.cli.main import main
with contextlib.redirect_stderr(io.StringIO()):
    main(["resume", "nothing"])  # loads what refusals need
for arguments, full in json.load(sys.stdin):
    # A process of its own, which a limit does not outlive; what is loaded stays loaded.
    reading, writing = os.pipe()
    if os.fork() == 0:
        if full:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        with contextlib.redirect_stderr(io.StringIO()) as told:
            code = main(arguments)
        os.write(writing, json.dumps([code, told.getvalue(), "torch" in sys.modules]).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        print(answer.read(), flush=True)
    os.wait()
"""


def refused(*commands: tuple[object, ...], full: bool = False) -> list[tuple[int, str]]:
    """The exit code and words of each command, none of which may have taken the time to load torch.

    `full` lets no file grow, as on a full disk.
    """
    asked = [([str(part) for part in command], full) for command in commands]
    done = subprocess.run(
        [sys.executable, "-c", REFUSED],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(commands)
    assert not any(torch for _, _, torch in answers), "it took the time to load torch"
    return [(code, words) for code, words, _ in answers]


HELD = (
    "resume RUN",
    "resume RUN --detach",
    "resume RUN --queue",
    "resume RUN --from step_4",
    "train --resume RUN --max-steps 9",
    "train --resume RUN/checkpoints",
    "train --resume RUN/checkpoints/step_2/model.safetensors",
    "train --resume latest --runs-dir RUN/..",
    "resume RUN --supervised",
)


def test_a_run_that_is_held_is_refused_at_once_naming_who_holds_it(finished) -> None:  # type: ignore[no-untyped-def]
    """A daemon's worker asks to be tried again."""
    run = finished()
    lock = RunLock(run / "lock")
    lock.acquire()
    answers = refused(*(tuple(line.replace("RUN", str(run)).split()) for line in HELD))
    lock.release()
    for line, (code, words) in zip(HELD, answers, strict=True):
        assert code == (75 if "--supervised" in line else 2), line
        held = rf"process {os.getpid()} on {host_name()}, since 20\d\d-"
        assert code == 75 or re.search(held, words), line


@pytest.mark.parametrize("more", [(), ("--detach",), ("--queue",)])
def test_a_place_that_cannot_be_written_is_refused_at_once(
    finished, tmp_path: Path, tiny, more: tuple[str, ...]
) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").touch()
    full = tmp_path / "full"
    full.mkdir()
    run = finished()
    before = sorted(p.name for p in run.iterdir())
    train = ("train", *tiny, "--max-steps", 2, *more, "--runs-dir")
    answers = [
        *refused((*train, tmp_path / "file"), (*train, "/proc/runs")),
        *refused((*train, full), ("resume", run, "--max-steps", 9, *more), full=True),
    ]
    for (code, words), expected, why in zip(
        answers,
        (2, 2, 2, 1),
        (
            "is not a folder",
            "Cannot create a run in /proc/runs",
            "File too large",
            f"Cannot write in {run}: File too large",
        ),
        strict=True,
    ):
        assert code == expected
        assert why in words
        assert words.count("\n") == 1
    assert list(full.iterdir()) == []
    assert sorted(p.name for p in run.iterdir()) == before


def test_a_folder_without_permission_is_refused_at_once(finished, tmp_path: Path, tiny) -> None:  # type: ignore[no-untyped-def]
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    run = finished()
    for folder in (run, tmp_path):
        folder.chmod(0o555)
    try:
        (run / "lock").chmod(0o444)
        answers = refused(("resume", run), ("train", *tiny, "--runs-dir", tmp_path))
        assert [code for code, _ in answers] == [1, 2]
        assert all("Permission denied" in words for _, words in answers)
    finally:
        for folder in (run, tmp_path):
            folder.chmod(0o755)


# -- Slurm -------------------------------------------------------------------------------

SCONTROL = """#!/bin/sh
printf "<%s>" "$@" >> {said}
[ -n "{words}" ] && echo "{words}" >&2
exit {code}
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A `scontrol` on PATH that notes how it was called."""
    monkeypatch.setenv("SLURM_JOB_ID", "4711; rm -rf /")
    monkeypatch.delenv("TRAINER_SUPERVISED", raising=False)

    def install(code: int = 0, words: str = "") -> Path:
        folder, said = tmp_path / "bin", tmp_path / "said"
        folder.mkdir(exist_ok=True)
        (folder / "scontrol").write_text(SCONTROL.format(said=said, code=code, words=words))
        (folder / "scontrol").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return said

    return install


def preempt(number: signal.Signals) -> Hooks:
    """Let a run in this process receive a signal in its first step."""
    return Hooks(after_step=lambda _session, _result: os.kill(os.getpid(), number))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_preempted_run_puts_its_slurm_job_back(
    run_cli, runs_dir: Path, tiny, slurm, number: signal.Signals
) -> None:  # type: ignore[no-untyped-def]
    said = slurm()
    twenty = (*tiny, "--max-steps", 20, "--runs-dir", runs_dir)
    output = run_cli("train", *twenty, hooks=preempt(number))
    assert output.code == 75, output.err
    assert said.read_text() == "<requeue><4711; rm -rf />", "not a command line"
    [run] = discover_runs(runs_dir)
    assert state_of(run).status == "preempted"
    assert run.log_path.read_text().endswith("[INFO] Slurm starts job 4711; rm -rf / again\n")


def test_slurms_refusal_is_a_warning(run_cli, runs_dir: Path, tiny, slurm) -> None:  # type: ignore[no-untyped-def]
    slurm(code=1, words="Job has been cancelled")
    twenty = (*tiny, "--max-steps", 20, "--runs-dir", runs_dir)
    assert run_cli("train", *twenty, hooks=preempt(signal.SIGTERM)).code == 75
    [run] = discover_runs(runs_dir)
    [warning] = [e for e in read_records(run.events_path) if "requeued" in str(e.get("message"))]
    assert warning["event"] == "warning"
    assert "exit code 1: Job has been cancelled" in warning["message"]
    assert "[WARN] Slurm job" in run.log_path.read_text().splitlines()[-1]


def test_a_persons_ctrl_c_and_a_daemons_worker_leave_slurm_alone(slurm, runs_dir: Path) -> None:  # type: ignore[no-untyped-def]
    from trainer.launch.requeue import requeue

    said = slurm()
    run = make(runs_dir, "x", status="preempted")
    requeue(run, "SIGINT", os.environ)
    requeue(run, None, os.environ)
    requeue(run, "SIGTERM", {**os.environ, "TRAINER_SUPERVISED": "1"})
    requeue(run, "SIGTERM", {})
    assert not said.exists()
    requeue(run, "SIGTERM", os.environ)
    assert said.exists()


def test_without_scontrol_it_is_told(
    slurm, runs_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    from trainer.launch.requeue import requeue

    run = make(runs_dir, "x", status="preempted")
    monkeypatch.setenv("PATH", "/nowhere")
    requeue(run, "SIGTERM", os.environ)
    assert "scontrol cannot be run: No such file" in capsys.readouterr().out
    slurm()
    (Path(os.environ["PATH"].partition(":")[0]) / "scontrol").write_text(
        "#!/bin/sh\n/bin/sleep 5\n"
    )
    requeue(run, "SIGTERM", os.environ, timeout=0.05)
    assert "has not answered" in capsys.readouterr().out
