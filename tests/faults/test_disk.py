"""Disks that are full, slow, broken or gone: training goes on, the last good checkpoint stands."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.checkpoints.catalogue import list_checkpoints
from shared.checkpoints.manifest import verify_folder
from tests.trainer.loop.conftest import TINY, Train, Trained, as_flags, find, wait_for
from trainer.checkpoint.disk import Disk, free_bytes
from trainer.loop.hooks import Hooks
from trainer.loop.training import Training


def names(done: Trained) -> list[str]:
    return [c.name for c in list_checkpoints(done.run.checkpoints)]


def kinds(done: Trained) -> list[str]:
    return [e["event"] for e in done.events]


def all_sound(done: Trained) -> bool:
    return not any(verify_folder(c.path) for c in list_checkpoints(done.run.checkpoints))


def test_a_full_disk_is_an_alarm_and_the_next_save_ends_it(train: Train) -> None:
    """Not enough free for step 8: nothing is written, the run goes on, and saves once it can."""
    full = {"now": False}

    def scenario(step: int) -> None:
        full["now"] = 8 <= step < 10

    disk = Disk(free_bytes=lambda folder: 1000 if full["now"] else free_bytes(folder))
    hooks = Hooks(before_step=in_order(scenario), disk=disk, retry_seconds=0.0)
    done = train("full", hooks=hooks)
    assert done.code == 0
    failed = next(e for e in done.events if e["event"] == "checkpoint_failed")
    assert "1000 B are free" in failed["message"]
    assert kinds(done).count("alarm") == kinds(done).count("alarm_over") == 1
    saved = [e["name"] for e in done.events if e["event"] == "checkpoint_saved"]
    # At the step after it has looked at the disk again, before step 11.
    assert saved == ["step_4", "step_11", "step_12", "final"], "saved as soon as there was room"
    assert done.state.alarm == ""
    assert all_sound(done)


def in_order(scenario: Callable[[int], None]) -> Callable[[Training], None]:
    """A `before_step` that tells `scenario` the coming step, when no save is under way."""

    def before_step(training: Training) -> None:
        training.keeper.wait()
        scenario(training.session.progress.step + 1)

    return before_step


def test_the_last_step_waits_for_room(train: Train) -> None:
    """A run that has reached its end is not lost to a disk that is just being cleared."""
    tries: list[Path] = []

    def free(folder: Path) -> int:
        tries.append(folder)
        return free_bytes(folder) if len(tries) > 3 else 0

    hooks = Hooks(disk=Disk(free_bytes=free), retry_seconds=0.05)
    done = train("end", hooks=hooks, checkpoint__interval=100)
    assert done.code == 0
    assert done.log.count("trying again") == 3
    assert names(done) == ["step_12", "final"]
    assert done.state.status == "completed"


def test_an_end_that_is_never_saved_is_a_failure(train: Train) -> None:
    hooks = Hooks(disk=Disk(free_bytes=lambda _folder: 0), retry_seconds=0.05)
    done = train("never", hooks=hooks, stability__directory_grace=0.2)
    assert done.code == 1
    assert done.state.status == "failed"
    assert not done.state.exit.final
    assert "are free" in done.state.exit.reason


def test_files_that_may_not_grow(train: Train) -> None:
    """RLIMIT_FSIZE: the kernel refuses in the middle of a file, whatever the disk has free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        done = train("limited", stability__directory_grace=0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert done.code == 1
    assert "File too large" in done.state.exit.reason
    assert done.metrics.series("loss").steps.tolist() == list(range(1, 13)), "training went on"
    assert kinds(done).count("alarm") == 1, "said once"
    assert not names(done)
    assert not [p for p in done.run.checkpoints.iterdir() if p.name.startswith(".tmp")]


def _path_of(fd: int) -> Path:
    return Path(f"/proc/self/fd/{fd}").readlink()


@pytest.mark.parametrize("failures", [1, 2])
def test_a_failed_fsync_writes_all_of_it_again(
    train: Train, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """After a failed fsync the pages count as clean, so the whole checkpoint is written anew."""
    written: list[str] = []
    left = [failures]
    real_fsync = os.fsync

    def fsync(fd: int) -> None:
        if left[0] and _path_of(fd).name == "optimizer.safetensors":
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        real_fsync(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    hooks = Hooks(disk=Disk(written=lambda path: written.append(path.name)))
    done = train("eio", hooks=hooks, checkpoint__interval=100)
    assert done.code == 0
    whole = ["model.safetensors", "optimizer.safetensors", "manifest.json"]
    assert written == ["model.safetensors"] * failures + whole
    assert names(done) == ["step_12", "final"]
    assert all_sound(done)


def test_a_device_that_always_errs_costs_that_checkpoint_only(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync
    broken = [True]

    def fsync(fd: int) -> None:
        if broken[0] and "step_8" in _path_of(fd).parent.name:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    done = train("broken")
    assert done.code == 0
    assert names(done) == ["step_4", "step_12", "final"]
    failed = [e for e in done.events if e["event"] == "checkpoint_failed"]
    assert len(failed) == 1
    assert "Input/output error" in failed[0]["message"]
    assert all_sound(done)


def test_a_slow_disk_costs_one_save_at_most(train: Train) -> None:
    """Steps go on while a checkpoint is being written; only the next save waits for it."""
    trainings: list[Training] = []
    during: list[int] = []

    def slow(path: Path) -> None:
        """A write of `step_50` that ends once five more steps are made."""
        if path.name == "manifest.json" and "step_50" in path.parent.name:
            progress = trainings[-1].session.progress
            wait_for(lambda: progress.step >= 55, "steps beside the save")
            during.append(progress.step - 50)

    hooks = Hooks(before_step=trainings.append, disk=Disk(written=slow))
    shape = {"train__max_steps": 200, "checkpoint__interval": 50, "eval__interval": 200}
    done = train("slow", hooks=hooks, **shape)
    assert done.code == 0
    assert 5 <= during[0] <= 50, "the loop made steps during the save, and the next waited for it"
    assert [e["name"] for e in done.events if e["event"] == "checkpoint_saved"] == [
        "step_50",
        "step_100",
        "step_150",
        "step_200",
        "final",
    ]
    assert all_sound(done)


def test_background_and_foreground_saves_are_the_same(train: Train) -> None:
    """What is written beside training is the state of its step, not of a later one."""
    shape = {"checkpoint__interval": 1, "checkpoint__keep_last": 20, "eval__interval": 100}
    beside = train("beside", "--deterministic", **shape)
    before = train("before", "--deterministic", checkpoint__background=False, **shape)
    for step in range(1, 13):
        assert beside.hashes(f"step_{step}") == before.hashes(f"step_{step}")


def test_without_memory_for_a_copy_training_waits(train: Train) -> None:
    done = train("tight", hooks=Hooks(available_memory=lambda: 0))
    assert done.code == 0
    assert done.log.count("not enough memory for a copy") == 1
    assert "step_8" in names(done)
    assert all_sound(done)


def test_a_vanished_checkpoints_folder_is_not_made_again(train: Train, tmp_path: Path) -> None:
    """Below the mount point of a lost disk there is another folder: nothing is written to it."""
    where = tmp_path / "runs"

    def scenario(step: int) -> None:
        if step == 6:
            folder = find(where, "gone").checkpoints
            assert (folder / "step_4").is_dir()
            folder.rename(tmp_path / "lost")
            folder.mkdir()

    hooks = Hooks(before_step=in_order(scenario))
    done = train("gone", hooks=hooks, stability__directory_grace=0.0)
    assert done.code == 1
    assert "has vanished" in done.state.exit.reason
    assert list(done.run.checkpoints.iterdir()) == []
    assert (tmp_path / "lost" / "step_4").is_dir()


CAN_MOUNT = (
    os.geteuid() == 0
    and shutil.which("unshare") is not None
    and subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    ).returncode
    == 0
)


#: The trainer as a process, which tries a save again half a second after one has failed.
IMPATIENT = (
    "import sys; from trainer.cli.main import main; from trainer.loop.hooks import Hooks; "
    "sys.exit(main(sys.argv[1:], Hooks(retry_seconds=0.5)))"
)


@pytest.mark.slow
@pytest.mark.skipif(not CAN_MOUNT, reason="needs a mount namespace")
def test_a_small_filesystem_really_full(tmp_path: Path, text_data: Path) -> None:
    """A tmpfs that a neighbour fills: alarm, no torn file, and saves again when it is cleared."""
    where, out = tmp_path / "small", tmp_path / "out"
    where.mkdir()
    settings = {**TINY, "train.max_steps": 10**9, "checkpoint.interval": 50}
    settings |= {"eval.interval": 10**9, "checkpoint.keep_last": 2, "log.interval": 1000}
    command = [sys.executable, "-c", IMPATIENT, "train", "--name", "small"]
    command += ["--runs-dir", str(where / "runs"), "--data-path", str(text_data)]
    script = f"""
mount -t tmpfs -o size=40m tmpfs {where}
"$@" > {out} 2>&1 & trainer=$!
count() {{ grep -c "$1" {out}; }}
wait_for() {{ for i in $(seq 3000); do [ "$(count "$1")" -ge 1 ] && return; sleep 0.1; done; }}
wait_for 'Saved step_'
dd if=/dev/zero of={where}/filler bs=64k count=1000 2>/dev/null  # no room for a checkpoint
wait_for 'ALARM.*older checkpoints are kept'  # not only that records wait
rm {where}/filler
wait_for 'checkpoints can be written again'
kill -TERM $trainer; wait $trainer; echo "exit $?" >> {out}
cp -a {where}/runs {tmp_path}/copy
"""
    subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *command, *as_flags(settings)],
        check=False,
        timeout=600,
    )
    said = out.read_text()
    assert "exit 75" in said, said[-2000:]
    assert "[ALARM]" in said
    assert "checkpoints can be written again" in said
    done = Trained(find(tmp_path / "copy", "small"), 75)
    assert done.state.status == "preempted"
    assert kinds(done).count("alarm") >= 1
    assert all_sound(done)
    steps = done.metrics.series("loss").steps
    assert steps.tolist() == list(range(1, int(steps[-1]) + 1)), "no record was lost"


@pytest.mark.slow
@pytest.mark.skipif(not CAN_MOUNT, reason="needs a mount namespace")
def test_sigterm_while_the_disk_is_full(tmp_path: Path, text_data: Path) -> None:
    """Not a byte is free: exit code 75, a sentence, the status, and every record."""
    where, out = tmp_path / "small", tmp_path / "out"
    where.mkdir()
    settings = {**TINY, "train.max_steps": 10**9, "checkpoint.interval": 50}
    settings |= {"eval.interval": 10**9, "checkpoint.keep_last": 2, "log.interval": 10}
    trainer = [sys.executable, "-m", "trainer"]
    command = [*trainer, "train", "--name", "small"]
    command += ["--runs-dir", str(where / "runs"), "--data-path", str(text_data)]
    status = f"{sys.executable} -m trainer status --runs-dir {where}/runs"
    script = f"""
mount -t tmpfs -o size=40m tmpfs {where}
"$@" > {out} 2>&1 & trainer=$!
count() {{ grep -c "$1" "$2"; }}
wait_for() {{ for i in $(seq 3000); do [ "$(count "$1" $2)" -ge 1 ] && return; sleep 0.1; done; }}
wait_for 'Saved step_' {out}
cat /dev/zero > {where}/filler 2>/dev/null
wait_for 'records cannot be written' {out}
for i in $(seq 60); do
    {status} > {tmp_path}/status; [ "$(count ALARM {tmp_path}/status)" -ge 1 ] && break; sleep 1
done
kill -TERM $trainer; wait $trainer; echo "exit $?" >> {out}
{status} > {tmp_path}/ended
cp -a {where}/runs {tmp_path}/copy
"""
    subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *command, *as_flags(settings)],
        check=False,
        timeout=900,
    )
    said = out.read_text()
    assert "exit 75" in said, said[-2000:]
    assert "Traceback" not in said
    assert "are lost" not in said
    assert "ALARM" in (tmp_path / "status").read_text(), "the heartbeat carries the alarm"
    assert "preempted" in (tmp_path / "ended").read_text()
    done = Trained(find(tmp_path / "copy", "small"), 75)
    assert done.state.status == "preempted"
    steps = done.metrics.series("loss").steps
    assert steps.tolist() == list(range(1, int(steps[-1]) + 1)), "no record was lost"
    assert not list(done.run.path.glob(".reserve*"))


def test_a_checkpoint_demands_little_more_than_it_takes(train: Train) -> None:
    """A few bytes short of what it took last time is not enough; a little more is."""
    demanded: list[int] = []

    def look(training: Training) -> None:
        demanded.append(training.keeper.wanted_bytes)

    done = train("sizes", hooks=Hooks(before_step=look))
    taken = next(e["bytes"] for e in done.events if e["event"] == "checkpoint_saved")
    assert taken <= max(demanded) <= taken + (1 << 20)
