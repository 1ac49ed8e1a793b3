"""Processes killed, stopped and started twice: nothing is lost, and a run has one owner."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from shared.checkpoints.catalogue import newest_sound
from shared.ownership.health import Health, observe
from shared.run.directory import RunDirectory
from shared.run.records import RunState
from tests.faults.counts import times
from tests.faults.forking import ForkServer, wait_until_training
from tests.trainer.loop.conftest import GPT2, TINY, Train, Trained, as_flags
from tests.waiting import until

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
    """SIGKILL, every other time inside a save; then the run is asked to end."""
    wanted = times(10, 220)
    settings = {**ENDLESS, **GPT2, "checkpoint.interval": 1, "optim.schedule": "constant"}
    where = tmp_path / "killed"
    arguments = [*command("k", where, text_data, settings), "--deterministic"]
    generator, before = random.Random(7), 0
    for kill in range(wanted):
        pid = server.start(*arguments)
        run = wait_until_training(where, pid)
        time.sleep(generator.uniform(0.0, 0.15))
        if kill % 2:
            _stop_inside_a_save(pid, run)
        os.kill(pid, signal.SIGKILL)
        assert server.wait(pid) == -signal.SIGKILL
        before = _newest_step(run)
        _, problems = newest_sound(run.checkpoints)
        assert not problems, "a kill left a checkpoint that looks whole but is not"
        assert before >= Trained(run, 0).state.current_step - 2, "one interval, one in writing"
        arguments = ["resume", str(run.path)]
    pid = server.start(*arguments)
    run = wait_until_training(where, pid)
    # Steps to compare; on a busy machine no attempt may have come to save one.
    until(lambda: _newest_step(run) > before)
    os.kill(pid, signal.SIGTERM)
    assert server.wait(pid) == 75
    killed = Trained(run, 75)
    assert not list(run.checkpoints.glob(".tmp-*"))
    steps = killed.state.current_step
    settings |= {"train.max_steps": steps, "checkpoint.interval": 10**6}
    whole = train("whole", "--deterministic", **underscored(settings))
    assert killed.hashes(f"step_{steps}") == whole.hashes("final")
    # The attempt before the last one may have come further, by what it had not saved.
    losses = [done.metrics.series("loss").values[:steps].tolist() for done in (killed, whole)]
    assert losses[0] == losses[1]


def _stop_inside_a_save(pid: int, run: RunDirectory) -> None:
    """Stop the trainer while it writes a checkpoint."""

    def is_inside() -> bool:
        os.kill(pid, signal.SIGSTOP)
        until(lambda: _is_stopped(pid), every=0.0)
        if any(run.checkpoints.glob(".tmp-*")):
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    until(is_inside, every=0.001)


def _is_stopped(pid: int) -> bool:
    return _process_state(pid) == "T"


def _process_state(pid: int) -> str:
    """The letter by which /proc names it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


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
    for i in range(times(4, 52)):
        pid = server.start(*arguments)
        run = wait_until_training(tmp_path, pid)
        time.sleep(generator.uniform(0.0, 0.1))
        os.kill(pid, asked[i % len(asked)])
        assert server.wait(pid) == 75
        done = Trained(run, 75)
        assert done.state.status == "preempted"
        assert done.state.latest_checkpoint == f"step_{done.state.current_step}"
        assert newest_sound(run.checkpoints)[0].step == done.state.current_step
        arguments = ["resume", str(run.path)]


@pytest.mark.slow
def test_a_second_signal_ends_at_once(server: ForkServer, tmp_path: Path, text_data: Path) -> None:
    pid = server.start(*command("two", tmp_path, text_data, ENDLESS))
    wait_until_training(tmp_path, pid)
    os.kill(pid, signal.SIGSTOP)  # both arrive before it can act on the first
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGCONT)
    # Not 75: it saves nothing, which would take its time.
    assert server.wait(pid) in (128 + signal.SIGTERM, 128 + signal.SIGINT)


@pytest.mark.slow
def test_stopped_and_continued(server: ForkServer, tmp_path: Path, text_data: Path) -> None:
    """SIGSTOP shows as stalled, SIGCONT as running again; nothing is lost."""
    pid = server.start(*command("stopped", tmp_path, text_data, ENDLESS))
    run = wait_until_training(tmp_path, pid)
    os.kill(pid, signal.SIGSTOP)
    wait_for_status(run, "stalled")
    stood_at = (run.read_state() or RunState()).current_step
    os.kill(pid, signal.SIGCONT)
    wait_for_status(run, "running")
    until(lambda: (run.read_state() or RunState()).current_step > stood_at)
    os.kill(pid, signal.SIGTERM)
    assert server.wait(pid) == 75
    steps = Trained(run, 75).metrics.series("loss").steps.tolist()
    assert steps == list(range(1, len(steps) + 1))


def wait_for_status(run: RunDirectory, status: str) -> None:
    def health() -> Health:
        return observe(run, run.read_state() or RunState())

    until(lambda: health().status == status, what=health)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_trainers_at_once(
    train: Train, server: ForkServer, tmp_path: Path, text_data: Path
) -> None:
    """Started together on one run, one trains; the other ends and says who does."""
    first = train("one", train__max_steps=4)
    settings = as_flags({"train.max_steps": 10**6, "checkpoint.interval": 10**6})
    settings += as_flags({"eval.interval": 10**6, "log.interval": 10**6})
    arguments = ["resume", str(first.run.path), *settings]
    for i in range(times(3, 100)):
        outputs = [tmp_path / f"{i}-{n}" for n in (1, 2)]
        pids = [server.start(*arguments, output=str(path)) for path in outputs]
        loser = _first_to_end(pids)
        winner = pids[1 - pids.index(loser)]
        assert server.wait(loser) == 2
        said = outputs[pids.index(loser)].read_text()
        assert f"process {winner} on" in said
        assert "since" in said
        assert "Traceback" not in said
        wait_until_training(first.run.path.parent, winner)
        os.kill(winner, signal.SIGKILL)  # its lock is stale from now on, and no obstacle
        assert server.wait(winner) == -signal.SIGKILL


def _first_to_end(pids: list[int]) -> int:
    # A zombie: its parent has not been asked to wait for it yet.
    return until(lambda: next((pid for pid in pids if _process_state(pid) == "Z"), 0))


def test_fork_server_tells_how_it_ended(server: ForkServer, tmp_path: Path) -> None:
    """The tests above believe what it says."""
    assert server.wait(server.start("--version", output=str(tmp_path / "out"))) == 0
    assert server.wait(server.start("no-such-command")) == 2
    assert (tmp_path / "out").read_text().startswith("trainer ")
