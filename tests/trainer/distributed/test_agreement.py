"""What one of two ranks learns, both act on: memory that runs out, requests, the end of one."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from safetensors.torch import load_file

from shared.control.client import ask
from shared.run.directory import RunDirectory
from tests.faults.counts import SOAK
from tests.trainer.distributed.conftest import Ranks, losses
from tests.waiting import until

soak = pytest.mark.skipif(not SOAK, reason="make soak")
HOOKS = "tests.trainer.distributed.disturbing:"
DROPOUT = {"model__dropout": 0.2, "train__deterministic": True}


@pytest.fixture(scope="module")
def whole(ranks: Ranks) -> np.ndarray:
    """The losses of an undisturbed run on two ranks."""
    return losses(ranks.train(2, "whole", train__batch_size=8))


def test_memory_that_runs_out_on_one_rank(ranks: Ranks, whole: np.ndarray) -> None:
    found = ranks.train(2, "small", hooks=f"{HOOKS}out_of_memory", train__batch_size=8)
    assert found.code == 0
    sizes = [e["retry_with"] for e in found.events if e["event"] == "out_of_memory"]
    assert sizes == [2, 1]
    assert found.state.micro_batch == 1
    np.testing.assert_allclose(losses(found), whole, rtol=1e-4)


@soak
def test_a_rollback_of_both(ranks: Ranks) -> None:
    found = ranks.train(2, "rolled", hooks=f"{HOOKS}not_finite")
    assert found.code == 0
    assert [e["checkpoint"] for e in found.events if e["event"] == "rolled_back"] == ["step_4"]
    assert np.isfinite(losses(found)).all()


def test_every_rank_has_its_own_dropout_back(ranks: Ranks) -> None:
    """Two public trainers restored the generators of another rank."""
    whole = ranks.train(2, "dropout", **DROPOUT)
    stopped = ranks.train(2, "stopped", hooks=f"{HOOKS}stop_at_5", **DROPOUT)
    assert stopped.code == 75
    state = load_file(stopped.run.checkpoints / "latest" / "optimizer.safetensors")
    assert (state["rng.cpu"] != state["rng.rank_1.cpu"]).any()
    resumed = ranks.resume(2, stopped.run)
    assert resumed.hashes("final") == whole.hashes("final")
    # One that the checkpoint does not know begins anew, and not as rank 0 does.
    alone = ranks.train(1, "alone", hooks=f"{HOOKS}stop_at_5", **DROPOUT)
    ranks.resume(2, alone.run)
    state = load_file(alone.run.checkpoints / "final" / "optimizer.safetensors")
    assert (state["rng.cpu"] != state["rng.rank_1.cpu"]).any()


def test_requests(ranks: Ranks) -> None:
    started = ranks.start(2, *ranks.arguments("asked", train__max_steps=1_000_000))
    run = until(lambda: ranks.found("asked"))
    assert run is not None
    until(lambda: status_of(run) == "running", what=lambda: started.said(0))
    for action, status in (("pause", "paused"), ("checkpoint", "paused"), ("resume", "running")):
        answer = ask(run, action).wait()
        assert answer is not None
        assert answer.ok, answer
        until(lambda status=status: status_of(run) == status)
    answer = ask(run, "pause").wait()
    assert answer is not None
    assert answer.ok, answer
    os.kill(started.pids[1], signal.SIGTERM)  # the rank that only waits now
    assert started.codes() == [75, 75]
    assert status_of(run) == "preempted"


def status_of(run: RunDirectory) -> str:
    state = run.read_state()
    return state.status if state else ""


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("die_at_5", ("Rank 1", "died or froze without a word")),
        pytest.param("raise_at_5", ("Rank 1", "ValueError: this rank has had enough"), marks=soak),
        pytest.param("hang_at_5", ("Rank 1", "hangs at step 5"), marks=soak),
    ],
)
def test_a_rank_that_fails_is_named(ranks: Ranks, hook: str, words: tuple[str, ...]) -> None:
    arguments = ranks.arguments(hook, distributed__timeout=2.0)
    started = ranks.start(2, *arguments, hooks=HOOKS + hook)
    assert started.codes()[0] == 1
    run = ranks.find(hook)
    state = run.read_state()
    assert state is not None
    assert state.exit is not None
    assert state.status == "failed"
    assert all(word in state.exit.reason for word in words), state.exit.reason
    assert any("Rank 1" in line for line in state.exit.last_log_lines)
    # Nothing is lost: the same two ranks finish it.
    assert ranks.resume(2, run).code == 0
