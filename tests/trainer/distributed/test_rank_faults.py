"""A rank that dies, fails or hangs ends the attempt for all, with its name and its last words."""

from __future__ import annotations

import pytest

from tests.trainer.distributed.conftest import Ranks

HOOKS = "tests.trainer.distributed.disturbing:"


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("die_at_5", ("Rank 1", "died or froze at step", "without a word")),
        ("raise_at_5", ("Rank 1", "ValueError: this rank has had enough")),
        ("hang_at_5", ("Rank 1", "hangs at step 5")),
    ],
)
def test_the_run_fails_by_name(ranks: Ranks, hook: str, words: tuple[str, ...]) -> None:
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
