"""`trainer train --nproc-per-node`: torchrun behind one process, its signals and exit codes."""

from __future__ import annotations

import json
import os
import signal

import psutil
import pytest

from shared.ownership.process import identify
from tests.faults.counts import SOAK
from tests.trainer.distributed.conftest import Ranks
from tests.trainer.loop.conftest import start_process
from tests.waiting import until

SLOW = pytest.mark.skipif(not SOAK, reason="make soak")


@pytest.mark.parametrize(
    ("ended", "code", "status"),
    [
        ("usr1", 75, "preempted"),
        pytest.param("killed", -9, "preempted", marks=SLOW),
        pytest.param("rank 0 killed", 1, "failed", marks=SLOW),
        pytest.param("torchrun killed", 1, "failed", marks=SLOW),
    ],
)
def test_whatever_ends_it_no_rank_is_left(ranks: Ranks, ended: str, code: int, status: str) -> None:
    name = ended.replace(" ", "_")
    arguments = ranks.arguments(
        name, train__max_steps=1_000_000, log__interval=1000, distributed__nproc_per_node=2
    )
    place = ranks.where / f"tmp_{name}"
    place.mkdir()
    process = start_process(*arguments, TMPDIR=str(place))
    try:
        run = until(lambda: ranks.found(name), what=process.poll)
        assert run is not None

        def at_work() -> bool:
            state = run.read_state()
            return state is not None and state.latest_checkpoint is not None

        until(at_work, what=process.poll)
        state = run.read_state()
        assert state is not None
        assert (state.ranks, state.launcher_pid) == (2, process.pid)
        told = [json.loads(p.read_text()) for p in place.glob("trainer-ranks-*/rank_*")]
        living = [identify(rank["pid"]) for rank in told]
        assert len(living) == 2
        if ended == "rank 0 killed":
            os.kill(state.pid, signal.SIGKILL)
        elif ended == "torchrun killed":
            psutil.Process(process.pid).children()[0].kill()
        else:
            if ended == "usr1":  # Slurm may send such a signal to every process of a job
                psutil.Process(process.pid).children()[0].send_signal(signal.SIGUSR1)
            process.send_signal(signal.SIGUSR1 if ended == "usr1" else signal.SIGKILL)
        assert process.wait(120) == code
        until(lambda: not any(rank.is_alive() for rank in living))
        assert not list(place.glob("trainer-ranks-*"))
    finally:
        process.kill()
        process.wait()
    state = run.read_state()
    assert state is not None
    assert state.exit is not None
    assert state.status == status
    if ended == "rank 0 killed":
        assert state.exit.reason.startswith("Rank 0")


@SLOW
def test_torchrun_starts_the_ranks_again(ranks: Ranks) -> None:
    """A rank is killed; the others' next attempt goes on from the newest checkpoint."""
    restarts = {"distributed__nproc_per_node": 2, "distributed__max_restarts": 1}
    arguments = ranks.arguments("again", train__max_steps=400, log__interval=1000, **restarts)
    process = start_process(*arguments, TMPDIR=str(ranks.where))
    try:
        run = until(lambda: ranks.found("again"))
        assert run is not None
        until(lambda: (s := run.read_state()) is not None and s.latest_checkpoint is not None)
        state = run.read_state()
        assert state is not None
        os.kill(state.pid, signal.SIGKILL)
        assert process.wait(200) == 0
    finally:
        process.kill()
        process.wait()
    state = run.read_state()
    assert state is not None
    assert (state.status, state.attempt, state.current_step) == ("completed", 2, 400)
