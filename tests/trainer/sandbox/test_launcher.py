"""The launcher dies, hangs, or loses its trainer: works fail with a reason, and nothing is left."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.errors import RunError, UserError
from tests.sandbox import attack, got, shell
from tests.waiting import until
from trainer.sandbox.interface import Limits, Work
from trainer.sandbox.launcher.workplace import Workplace, sweep
from trainer.sandbox.sandbox import Sandbox

LONG = Limits(wall_seconds=100)


@pytest.fixture
def own() -> Iterator[Sandbox]:
    """A sandbox to be broken."""
    with Sandbox(parallel=2, grace=0.2, retries=0) as opened:
        yield opened


def test_a_killed_launcher_is_replaced_and_its_works_are_failures(own: Sandbox):
    first, workplace = own.launcher_pid, own.workplace
    with ThreadPoolExecutor() as pool:
        running = pool.submit(own.run_many, [shell("sleep 100", limits=LONG)] * 3)
        workers = until(lambda: _children(first), what=lambda: running)
        os.kill(first, signal.SIGKILL)
        outcomes = running.result()
    assert {outcome.failure for outcome in outcomes} == {"The sandbox's launcher ended (signal 9)."}
    assert not any(outcome.succeeded for outcome in outcomes)
    assert own.run(shell("exit 4")).exit_code == 4
    assert own.launcher_pid != first
    until(lambda: not any(map(_lives, workers)))
    assert not workplace.exists()  # the next launcher has swept it


def test_works_of_a_killed_launcher_are_tried_once_more():
    with Sandbox(parallel=2, grace=60, retries=1) as again, ThreadPoolExecutor() as pool:
        running = pool.submit(again.run_many, [shell("sleep 0.2; exit 6")] * 3)
        until(lambda: _children(again.launcher_pid), what=lambda: running)
        os.kill(again.launcher_pid, signal.SIGKILL)
        assert [outcome.exit_code for outcome in running.result()] == [6] * 3


def test_without_a_new_launcher_no_work_is_blamed(own: Sandbox, monkeypatch: pytest.MonkeyPatch):
    starts = []

    def start(_self: Sandbox) -> None:
        starts.append(1)
        raise RunError("No memory for a launcher.")

    os.kill(own.launcher_pid, signal.SIGKILL)
    until(lambda: not own._launcher.alive)
    monkeypatch.setattr(Sandbox, "_start", start)
    outcomes = own.run_many([shell("true")] * 3)
    assert [(o.failure, o.lost) for o in outcomes] == [("No memory for a launcher.", False)] * 3
    assert len(starts) == 1


def test_a_launcher_that_hangs_is_replaced(own: Sandbox):
    first = own.launcher_pid
    os.kill(first, signal.SIGSTOP)
    outcome = own.run(shell("true", limits=Limits(wall_seconds=0.1)))
    assert outcome.failure == "The sandbox's launcher ended (signal 9)."
    assert own.run(shell("exit 4", limits=LONG)).exit_code == 4


def test_nothing_outlives_a_killed_trainer():
    code = """
        import sys, threading
        from trainer.sandbox.sandbox import Sandbox
        from trainer.sandbox.interface import Limits, Work
        sandbox = Sandbox(parallel=1)
        work = Work(("/bin/sh", "-c", "sleep 100"), limits=Limits(wall_seconds=100))
        threading.Thread(target=sandbox.run, args=(work,)).start()
        print(sandbox.launcher_pid, sandbox.workplace, flush=True)
    """
    import textwrap

    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as trainer:
        try:
            assert trainer.stdout is not None
            pid, workplace = trainer.stdout.readline().decode().split()
            workers = until(lambda: _children(int(pid)))
        finally:
            trainer.kill()
    until(lambda: not _lives(int(pid)) and not any(map(_lives, workers)))
    assert not Path(workplace).exists()


def test_leftovers_are_swept_but_not_those_of_the_living(tmp_path: Path, own: Sandbox):
    left = tmp_path / "train-monitor-sandbox-left"
    (left / "0" / "deep").mkdir(parents=True)
    (left / "0").chmod(0)
    other = tmp_path / "else"
    other.mkdir()
    link = tmp_path / "train-monitor-sandbox-link"
    link.symlink_to(other)
    sweep(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["else", link.name]
    sweep(str(own.workplace.parent))
    assert own.workplace.exists()


def test_a_launcher_that_starts_meanwhile_does_not_sweep_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = fcntl.flock

    def late(fd: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        sweep(str(tmp_path))
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    workplace = Workplace((str(tmp_path),))
    sweep(str(tmp_path))
    assert Path(workplace.new_folder()).is_dir()
    workplace.close()
    assert not list(tmp_path.iterdir())


def test_closing_ends_what_runs_and_closes_once(own: Sandbox):
    workplace = own.workplace
    with ThreadPoolExecutor() as pool:
        running = pool.submit(own.run, shell("sleep 100", limits=LONG))
        until(lambda: _children(own.launcher_pid))
        own.close()
        assert running.result().failure is not None
    own.close()
    assert not workplace.exists()
    with pytest.raises(RuntimeError, match="closed"):
        own.run(shell("true"))


def test_several_threads_share_one(whole: Sandbox):
    def ask(number: int) -> list[bytes]:
        works = [shell(f"echo {number} {part}") for part in range(2)]
        return [outcome.stdout for outcome in whole.run_many(works)]

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))
    assert answers == [[f"{n} {part}\n".encode() for part in range(2)] for n in range(6)]
    assert threading.active_count() < 50


def test_code_is_not_executed_without_the_layers_that_this_needs():
    with Sandbox(refused=("landlock", "network namespace")) as lacking:
        work = Work(("/bin/true",), executes_generated_code=True)
        assert not lacking.may_execute
        with pytest.raises(UserError, match=r"no landlock \(turned off\) and no network namespace"):
            lacking.run(work)
        assert lacking.run(shell("exit 3")).exit_code == 3  # not the model's code
        assert "missing: landlock (turned off)" in lacking.layers.line()
    with Sandbox(refused=("landlock",), allow_unsandboxed=True) as allowed:
        assert allowed.may_execute
        assert allowed.run(work).succeeded


def test_without_a_filter_or_namespaces_it_still_runs(bare: Sandbox, whole: Sandbox):
    for sandbox in (bare, whole):
        line = sandbox.layers.line()
        assert line.startswith("sandbox: empty environment, limits, own session")
        assert "\n" not in line
        assert got(sandbox.run(attack("attempt('x', lambda: -1)"))) == []


def test_a_large_file_goes_there_and_back(whole: Sandbox):
    data = os.urandom(3 << 20)
    outcome = whole.run(shell("mv a b", files={"a": data}, outputs=("b",), limits=Limits()))
    assert outcome.files == {"b": data}


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("this kernel does not list children")
    return [int(child) for child in path.read_text().split()]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
