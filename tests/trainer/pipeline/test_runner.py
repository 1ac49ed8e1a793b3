"""Which stages are kept, repeated, skipped and tried again."""

from __future__ import annotations

import errno
from itertools import pairwise
from pathlib import Path

import pytest

from shared.errors import ExitCode
from shared.files import write_json
from tests.trainer.pipeline.conftest import Pipeline
from trainer.pipeline import runner
from trainer.pipeline.stages.interface import StageError
from trainer.pipeline.steering import Stopped


def test_what_is_whole_is_kept(pipeline: Pipeline) -> None:
    assert pipeline.run() == 0
    assert pipeline.text("fourth") == "saaa"
    assert pipeline.run() == 0
    assert pipeline.done == [1, 1, 1, 1]
    assert pipeline.log.count("it is kept") == 4


def test_a_setting_repeats_what_depends_on_it(pipeline: Pipeline) -> None:
    pipeline.run()
    assert pipeline.run(second="b") == 0
    assert pipeline.done == [1, 2, 1, 2]
    assert "second: repeated, because settings changed: text b (was a)" in pipeline.log
    assert "fourth: repeated, because its input" in pipeline.log
    assert pipeline.text("fourth") == "saba"


def test_an_input_repeats_what_depends_on_it(pipeline: Pipeline, source: Path) -> None:
    pipeline.run()
    source.touch()
    pipeline.run()
    assert pipeline.done == [1, 1, 1, 1], "the same content is the same input"
    source.write_text("t")
    pipeline.run()
    assert pipeline.done == [2, 2, 1, 2]
    assert f"its input {source} changed" in pipeline.log


@pytest.mark.parametrize("harm", ["removed", "changed", "emptied"])
def test_outputs_are_checked_by_what_they_hold(pipeline: Pipeline, harm: str) -> None:
    pipeline.run()
    path = pipeline.folder / "outputs" / "second"
    path.unlink() if harm == "removed" else path.write_text("?" if harm == "changed" else "")
    assert pipeline.run() == 0
    assert pipeline.done == [1, 2, 1, 1], "the same bytes again: what depends on them is kept"
    assert f"second: repeated, because {path} is gone, changed or damaged" in pipeline.log


def test_a_stage_that_failed_is_tried_again(pipeline: Pipeline) -> None:
    def fail(_work: object) -> None:
        raise StageError("the flux is out of phase.")

    pipeline.stages[1].act = fail
    assert pipeline.run() == ExitCode.FAILURE
    assert pipeline.done == [1, 0, 0, 0]
    assert pipeline.record("second").status == "failed"
    assert "Stage second failed: the flux is out of phase." in pipeline.log
    pipeline.stages[1].act = lambda work: None
    assert pipeline.run() == 0
    assert "second: tried again; it failed: the flux is out of phase." in pipeline.log
    assert pipeline.done == [1, 1, 1, 1]


def test_stopped_it_says_so_and_continues(pipeline: Pipeline) -> None:
    def stop(_work: object) -> None:
        raise Stopped("preempted", ExitCode.REQUEUE, "SIGTERM received")

    pipeline.stages[2].act = stop
    assert pipeline.run() == ExitCode.REQUEUE
    assert pipeline.record("third").status == "waiting"
    pipeline.stages[2].act = lambda work: None
    assert pipeline.run() == 0
    assert "third: continues" in pipeline.log
    assert pipeline.done == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("ended", "code", "status"),
    [
        (Stopped("preempted", ExitCode.REQUEUE, "SIGTERM received"), 75, "preempted"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "failed"),
    ],
)
def test_a_full_disk_does_not_change_how_it_ends(
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    ended: Exception,
    code: int,
    status: str,
) -> None:
    def full(*_of: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def end(_work: object) -> None:
        monkeypatch.setattr(runner, "write_record", full)
        raise ended

    pipeline.stages[1].act = end
    assert pipeline.run() == code
    assert pipeline.run_writer is not None
    assert pipeline.run_writer.state.status == status


def test_a_skipped_stage_is_done_when_it_can_be(pipeline: Pipeline) -> None:
    pipeline.stages[1].skip = "there is no compiler"
    assert pipeline.run() == 0
    assert pipeline.done == [1, 0, 1, 1]
    assert pipeline.record("second").status == "skipped"
    assert "second: skipped: there is no compiler" in pipeline.log
    pipeline.stages[1].skip = ""
    assert pipeline.run() == 0
    assert pipeline.done == [1, 1, 1, 2], "what was done without it depends on it"


def test_a_stage_that_wrote_nothing_has_failed(pipeline: Pipeline) -> None:
    (pipeline.folder / "outputs").mkdir()
    lost = pipeline.folder / "outputs" / "first"
    pipeline.run_writer = None
    work = pipeline.stages[0].work
    pipeline.stages[0].work = lambda context, w: (work(context, w), lost.unlink())[0]  # type: ignore[method-assign]
    assert pipeline.run() == ExitCode.FAILURE
    assert "is not there, or not whole, after the stage" in pipeline.log


@pytest.mark.parametrize(
    "junk", [{}, {"stages": 3}, {"stages": [{"name": 3}, 7, {"name": "first"}]}]
)
def test_an_unreadable_record_means_everything_again(
    pipeline: Pipeline, junk: dict[str, object]
) -> None:
    pipeline.run()
    assert pipeline.run_writer is not None
    write_json(pipeline.run_writer.run.path / "pipeline.json", junk)
    assert pipeline.run() == 0
    assert pipeline.done == [2, 2, 2, 2]


def test_the_log_says_where_it_is(pipeline: Pipeline) -> None:
    pipeline.stages[1].act = lambda work: [work.say(f"[INFO] line {n}") for n in range(30)]  # type: ignore[func-returns-value,assignment,return-value]
    pipeline.run()
    lines = pipeline.log.splitlines()
    at = [number for number, line in enumerate(lines) if "PHASE" in line]
    assert all(later - one <= 10 for one, later in pairwise(at)), "for tail | grep"
    assert pipeline.run_writer is not None
    state = pipeline.run_writer.run.read_state()
    assert state is not None
    assert (state.status, state.current_step, state.current_phase) == ("completed", 4, "done")
