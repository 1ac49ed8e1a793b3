"""What follows the end of a worker."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.daemon.policy import (
    HARD_LIMIT,
    LONGEST_DELAY,
    Done,
    Ending,
    GiveUp,
    History,
    Hopeless,
    Restart,
    RestartLimits,
    decide,
)

LIMITS = RestartLimits(max_restarts=5, window=3600.0)
CRASH = Ending("running", -9)


@pytest.mark.parametrize(
    ("ending", "decision"),
    [
        (Ending("completed", 0), Done()),
        (Ending("cancelled", 0), Done()),
        (Ending("cancelled", 130), Done()),
        (Ending("cancelled", None), Done()),
        (Ending("completed", -9), Done()),
        (Ending("failed", 2), Hopeless()),
        (Ending("", 2), Hopeless()),
        (Ending("failed", 1, final=True), Hopeless()),
        (Ending("failed", 1), Restart(1.0, 1, crashed=True)),
        (Ending("running", -11), Restart(1.0, 1, crashed=True)),
        (Ending("running", None), Restart(1.0, 1, crashed=True)),
        (Ending("", None), Restart(1.0, 1, crashed=True)),
        (Ending("preempted", 75), Restart(2.0, 1, crashed=False)),
        (Ending("preempted", 75, saved_step=10), Restart(2.0, 0, crashed=False)),
        (Ending("preempted", None, saved_step=10), Restart(2.0, 0, crashed=False)),
        (Ending("running", -9, saved_step=10), Restart(1.0, 1, crashed=True)),
    ],
)
def test_how_one_ended_says_what_follows(ending: Ending, decision: object) -> None:
    assert decide(ending, History(), LIMITS, 1000.0)[0] == decision


def test_the_delay_doubles_and_then_it_is_given_up() -> None:
    history, delays, now = History(), [], 1000.0
    while True:
        decision, history = decide(CRASH, history, LIMITS, now)
        if isinstance(decision, GiveUp):
            break
        assert isinstance(decision, Restart)
        delays.append(decision.delay)
        now += decision.delay + 3.0
    assert delays == [1, 2, 4, 8, 16]
    assert decision == GiveUp(attempts=6, seconds=31 + 5 * 3, crashed=True)


def test_a_new_checkpoint_wipes_the_slate() -> None:
    history = History()
    for step in range(0, 1000, 100):
        for _ in range(4):
            decision, history = decide(replace(CRASH, saved_step=step), history, LIMITS, 1000.0)
            assert isinstance(decision, Restart)
        assert decision.number == 4
    older = replace(CRASH, saved_step=500)
    assert decide(older, history, LIMITS, 1000.0)[0] == Restart(16.0, 5, crashed=True)


def test_what_lies_long_ago_counts_less_but_not_for_ever() -> None:
    """Attempts of an hour each with nothing to show for it: the window alone would never end."""
    history, now, restarts = History(), 0.0, 0
    for _ in range(1000):
        decision, history = decide(CRASH, history, LIMITS, now)
        if isinstance(decision, GiveUp):
            break
        restarts += 1
        now += 4000.0
    assert restarts == HARD_LIMIT * LIMITS.max_restarts


def test_no_restart_at_all() -> None:
    decision, _ = decide(CRASH, History(), RestartLimits(0), 5.0)
    assert decision == GiveUp(1, 0.0, crashed=True)


@given(
    endings=st.lists(
        st.tuples(
            st.sampled_from([-9, -11, 1, 75, None]),
            st.sampled_from(["running", "failed", "preempted", ""]),
            st.floats(0, 1e5),
        ),
        min_size=200,
        max_size=200,
    ),
    most=st.integers(0, 8),
)
def test_without_a_new_checkpoint_it_ends_and_never_waits_longer_than_five_minutes(
    endings: list[tuple[int | None, str, float]], most: int
) -> None:
    history, now = History(saved_step=40), 0.0
    for attempt, (code, status, lasted) in enumerate(endings):
        decision, history = decide(
            Ending(status, code, saved_step=40), history, RestartLimits(most), now
        )
        if isinstance(decision, GiveUp):
            assert attempt <= HARD_LIMIT * most
            return
        assert isinstance(decision, Restart)
        assert 0 < decision.delay <= LONGEST_DELAY
        now += decision.delay + lasted
    raise AssertionError("it went on and on")


@given(st.lists(st.floats(0, 1e9), max_size=30), st.integers(-1, 10**12))
def test_the_history_survives_its_file(failures: list[float], saved: int) -> None:
    history = History(tuple(failures), saved)
    assert History.from_json(history.to_json()) == history


@pytest.mark.parametrize("junk", [None, 3, [], {"failures": "x", "saved_step": "y"}])
def test_a_spoilt_history_is_none(junk: object) -> None:
    assert History.from_json(junk) == History()
