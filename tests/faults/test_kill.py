"""Processes killed, stopped and started twice: nothing is lost, and a run has one owner."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from shared.checkpoints.catalogue import newest_sound
from shared.ownership.health import observe
from shared.run.directory import RunDirectory, discover_runs
from shared.run.records import RunState
from tests.faults.counts import times
from tests.faults.forking import ForkServer, wait_until_training
from tests.trainer.loop.conftest import GPT2, TINY, Train, Trained, as_flags

ENDLESS = {
    **TINY,
    "train.max_steps": 10**6,
    "eval.interval": 10**6,
    "checkpoint.interval": 10**6,
    "log.interval": 10**6,
}


def underscored(settings: dict[str, object]) -> dict[str, object]:
    return {k.replace(".", "__"): v for k, v in settings.items()}


def command(name: str, where: Path, data: Path, settings: dict[str, object]) -> list[str]:
    arguments = ["--runs-dir", str(where), "--data-path", str(data)]
    return ["train", "--name", name, *arguments, *as_flags(settings)]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_random_moments_ends_with_the_same_bytes(
    train: Train, server: ForkServer, tmp_path: Path, text_data: Path
) -> None:
    """SIGKILL, also inside saves: a checkpoint at every step makes most moments such."""
    wanted = times(25, 220)
    settings = {**TINY, **GPT2, "train.max_steps": 6 * wanted, "checkpoint.interval": 1}
    settings |= {"eval.interval": 10**6, "log.interval": 100}
    whole = train("whole", "--deterministic", **underscored(settings))
    where = tmp_path / "killed"
    arguments = [*command("k", where, text_data, settings), "--deterministic"]
    generator = random.Random(7)
    kills = in_save = 0
    while True:
        pid = server.start(*arguments)
        if kills < wanted:
            wait_until_training(where, pid)
            time.sleep(generator.uniform(0.0, 0.15))
            os.kill(pid, signal.SIGKILL)
        code = server.wait(pid)
        (run,) = discover_runs(where)
        if code >= 0:
            assert code == 0
            break
        kills += 1
        in_save += any(run.checkpoints.glob(".tmp-*"))
        before = _newest_step(run)
        _, problems = newest_sound(run.checkpoints)
        assert not problems, "a kill left a checkpoint that looks whole but is not"
        assert before >= Trained(run, 0).state.current_step - 2, "one interval, one in writing"
        arguments = ["resume", str(run.path)]
    print(f"{kills} kills, {in_save} of them inside a save")
    assert kills >= wanted // 2
    assert in_save >= wanted // 25
    killed = Trained(run, 0)
    assert killed.hashes("final") == whole.hashes("final")
    assert not list(run.checkpoints.glob(".tmp-*"))
    assert killed.metrics.series("loss").values.tolist() == (
        whole.metrics.series("loss").values.tolist()
    )


def _newest_step(run: RunDirectory) -> int:
    newest, _ = newest_sound(run.checkpoints)
    return newest.step if newest else 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_asked_to_end_it_saves_and_says_so(
    server: ForkServer, tmp_path: Path, text_data: Path
) -> None:
    """SIGTERM, SIGINT, SIGUSR1, SIGHUP: a checkpoint of the last step, and exit code 75."""
    asked = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP]
    generator = random.Random(1)
    arguments = command("s", tmp_path, text_data, ENDLESS)
    slowest = 0.0
    for i in range(times(8, 52)):
        pid = server.start(*arguments)
        run = wait_until_training(tmp_path, pid)
        time.sleep(generator.uniform(0.0, 0.1))
        started = time.monotonic()
        os.kill(pid, asked[i % len(asked)])
        assert server.wait(pid) == 75
        slowest = max(slowest, time.monotonic() - started)
        done = Trained(run, 75)
        assert done.state.status == "preempted"
        assert done.state.latest_checkpoint == f"step_{done.state.current_step}"
        assert newest_sound(run.checkpoints)[0].step == done.state.current_step
        arguments = ["resume", str(run.path)]
    print(f"slowest end {slowest:.2f} s")
    assert slowest < 10


@pytest.mark.slow
def test_a_second_signal_ends_at_once(server: ForkServer, tmp_path: Path, text_data: Path) -> None:
    pid = server.start(*command("two", tmp_path, text_data, ENDLESS))
    wait_until_training(tmp_path, pid)
    os.kill(pid, signal.SIGSTOP)  # both arrive before it can act on the first
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    started = time.monotonic()
    os.kill(pid, signal.SIGCONT)
    assert server.wait(pid) in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert time.monotonic() - started < 2


@pytest.mark.slow
def test_stopped_and_continued(server: ForkServer, tmp_path: Path, text_data: Path) -> None:
    """SIGSTOP shows as stalled within ten seconds, SIGCONT as running again; nothing is lost."""
    pid = server.start(*command("stopped", tmp_path, text_data, ENDLESS))
    run = wait_until_training(tmp_path, pid)
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    wait_for_status(run, "stalled")
    assert time.monotonic() - started < 10
    stood_at = (run.read_state() or RunState()).current_step
    os.kill(pid, signal.SIGCONT)
    wait_for_status(run, "running")
    deadline = time.monotonic() + 30
    while (run.read_state() or RunState()).current_step <= stood_at:
        assert time.monotonic() < deadline, "it makes no steps"
        time.sleep(0.05)
    os.kill(pid, signal.SIGTERM)
    assert server.wait(pid) == 75
    steps = Trained(run, 75).metrics.series("loss").steps.tolist()
    assert steps == list(range(1, len(steps) + 1))


def wait_for_status(run: RunDirectory, status: str) -> None:
    deadline = time.monotonic() + 30
    while observe(run, run.read_state() or RunState()).status != status:
        assert time.monotonic() < deadline, observe(run, run.read_state() or RunState())
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_trainers_at_once(
    train: Train, server: ForkServer, tmp_path: Path, text_data: Path
) -> None:
    """Started together on one run, one trains; the other says within two seconds who it is."""
    first = train("one", train__max_steps=4)
    settings = as_flags({"train.max_steps": 10**6, "checkpoint.interval": 10**6})
    settings += as_flags({"eval.interval": 10**6, "log.interval": 10**6})
    arguments = ["resume", str(first.run.path), *settings]
    slowest = 0.0
    for i in range(times(6, 100)):
        outputs = [tmp_path / f"{i}-{n}" for n in (1, 2)]
        started = time.monotonic()
        pids = [server.start(*arguments, output=str(path)) for path in outputs]
        loser = _first_to_end(pids)
        slowest = max(slowest, time.monotonic() - started)
        winner = pids[1 - pids.index(loser)]
        assert server.wait(loser) == 2
        said = outputs[pids.index(loser)].read_text()
        assert f"process {winner} on" in said
        assert "since" in said
        assert "Traceback" not in said
        wait_until_training(first.run.path.parent, winner)
        os.kill(winner, signal.SIGKILL)  # its lock is stale from now on, and no obstacle
        assert server.wait(winner) == -signal.SIGKILL
    print(f"slowest refusal {slowest:.2f} s")
    assert slowest < 2


def _first_to_end(pids: list[int]) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for pid in pids:
            # A zombie: its parent has not been asked to wait for it yet.
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return pid
        time.sleep(0.005)
    raise AssertionError("both train")


def test_fork_server_tells_how_it_ended(server: ForkServer, tmp_path: Path) -> None:
    """The tests above believe what it says."""
    assert server.wait(server.start("--version", output=str(tmp_path / "out"))) == 0
    assert server.wait(server.start("no-such-command")) == 2
    assert (tmp_path / "out").read_text().startswith("trainer ")
