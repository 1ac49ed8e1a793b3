"""Works run, are limited, and leave nothing behind."""

from __future__ import annotations

import pytest

from tests.sandbox import shell
from trainer.sandbox.interface import Limits, Work
from trainer.sandbox.sandbox import Sandbox


def test_a_program_gets_its_files_and_its_results_come_back(whole: Sandbox):
    work = shell(
        "cat in/a; echo seen >&2; echo made > out; exit 3",
        files={"in/a": b"content"},
        outputs=("out", "missing"),
    )
    outcome = whole.run(work)
    assert outcome.failure is None
    assert (outcome.exit_code, outcome.signal, outcome.timed_out) == (3, None, False)
    assert (outcome.stdout, outcome.stderr) == (b"content", b"seen\n")
    assert outcome.files == {"out": b"made\n"}
    assert not outcome.succeeded


def test_many_works_run_at_once_and_answer_in_their_order(whole: Sandbox):
    outcomes = whole.run_many([shell(f"echo {number}") for number in range(12)])
    assert [int(outcome.stdout) for outcome in outcomes] == list(range(12))


def test_a_program_that_does_not_exist_is_a_failure_with_a_reason(whole: Sandbox):
    outcome = whole.run(Work(("/no/such/program",)))
    assert outcome.failure is not None
    assert "/no/such/program" in outcome.failure


def test_time_that_runs_out_ends_the_program(whole: Sandbox):
    outcome = whole.run(shell("echo begun; sleep 100", limits=Limits(wall_seconds=0.3)))
    assert outcome.timed_out
    assert outcome.stdout == b"begun\n"


@pytest.mark.parametrize("name", ["/etc/x", "a/../../x", "..", ""])
def test_files_stay_in_the_folder(name: str):
    with pytest.raises(ValueError, match="relative name"):
        Work(("/bin/true",), files={name: b""})
