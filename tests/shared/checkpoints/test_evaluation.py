"""`eval.json`: results replace what they repeat, and whatever is in the file can be read."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.checkpoints.evaluation import (
    EVALUATION,
    MAX_FILES,
    Evaluation,
    Measured,
    Speed,
    add_evaluation,
    read_evaluations,
    read_speeds,
    without_paths,
)
from shared.checkpoints.evaluation_record import (
    EVENT,
    event_fields,
    record_evaluation,
    record_suite,
    serve_evaluated,
    suite_fields,
)
from shared.checkpoints.suites import (
    Figure,
    SuiteResult,
    add_suites,
    newest_suites,
    read_suites,
)
from shared.control.requests import pending
from shared.errors import UserError
from shared.json_text import encode_json
from shared.ownership.heartbeat import HeartbeatFile
from shared.run.directory import create_run
from shared.run.event_text import event_text
from shared.run.record_lines import read_records
from shared.run_writer import RunWriter

TOTAL = Measured("val.bin", "ab" * 32, 2.5, 1.25, 1000, 2500)
RESULT = Evaluation(
    total=TOTAL,
    kind="tokens",
    split="validation",
    seq_len=64,
    stride=64,
    max_tokens=None,
    dtype="fp32",
    time=5.0,
    seconds=1.5,
    command="trainer eval --checkpoint /home/ada/x",
    git_commit=None,
    version="0.1",
    machine="cpu",
    files=(replace(TOTAL, data="a.txt"), replace(TOTAL, data="b.txt", bits_per_byte=None)),
)
SPEED = Speed(1000.0, 100.0, 64, 32, "fp32", "cpu", 5.0)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    add_evaluation(tmp_path, [RESULT], SPEED)
    assert read_evaluations(tmp_path) == [RESULT]
    assert json.loads((tmp_path / EVALUATION).read_bytes())["speed"][0]["decode"] == 100.0


def test_results_gather_and_newer_ones_replace_what_they_repeat(tmp_path: Path) -> None:
    again = replace(RESULT, total=replace(TOTAL, loss=2.0), time=6.0)
    sliding = replace(RESULT, stride=32)
    add_evaluation(tmp_path, [RESULT], SPEED)
    add_evaluation(tmp_path, [sliding], None)
    add_evaluation(tmp_path, [again], replace(SPEED, decode=120.0))
    assert read_evaluations(tmp_path) == [sliding, again]
    assert [s["decode"] for s in json.loads((tmp_path / EVALUATION).read_bytes())["speed"]] == [120]


def test_what_a_newer_program_wrote_stays(tmp_path: Path) -> None:
    (tmp_path / EVALUATION).write_text('{"humaneval": 0.5, "results": [{"kind": "new"}]}')
    add_evaluation(tmp_path, [RESULT], None)
    value = json.loads((tmp_path / EVALUATION).read_bytes())
    assert value["humaneval"] == 0.5
    assert value["results"][0] == {"kind": "new"}
    assert read_evaluations(tmp_path) == [RESULT]


def test_evaluations_that_end_together_are_all_kept(tmp_path: Path) -> None:
    def add(stride: int) -> None:
        add_evaluation(tmp_path, [replace(RESULT, stride=stride)], None)

    threads = [threading.Thread(target=add, args=(stride,)) for stride in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r.stride for r in read_evaluations(tmp_path)) == list(range(1, 9))


def test_a_loss_that_is_no_number_is_named_and_no_result(tmp_path: Path) -> None:
    add_evaluation(tmp_path, [replace(RESULT, total=replace(TOTAL, loss=math.nan))], None)
    (entry,) = json.loads((tmp_path / EVALUATION).read_bytes())["results"]
    assert entry["loss"] is None
    assert entry["nonfinite"]["loss"] == "nan"
    assert read_evaluations(tmp_path) == []


def test_of_very_many_files_some_are_left_out(tmp_path: Path) -> None:
    value = replace(RESULT, files=(TOTAL,) * (MAX_FILES + 5)).to_json()
    assert len(value["files"]) == MAX_FILES
    assert value["files_left_out"] == 5


def test_others_see_no_paths(tmp_path: Path) -> None:
    add_evaluation(tmp_path, [RESULT], SPEED)
    assert "/home/ada" not in json.dumps(without_paths(tmp_path))
    assert "loss" in json.dumps(without_paths(tmp_path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = [*RESULT.to_json(), "nonfinite"]


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), JSON) | JSON, max_size=3) | JSON)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_can_be_read(tmp_path: Path, value: object) -> None:
    (tmp_path / EVALUATION).write_text(json.dumps({"results": value, "speed": value}))
    for result in read_evaluations(tmp_path):
        assert result.total.loss == result.total.loss
    for speed in read_speeds(tmp_path):
        assert speed.decode == speed.decode
    without_paths(tmp_path)
    add_evaluation(tmp_path, [RESULT], SPEED)
    assert RESULT in read_evaluations(tmp_path)
    assert SPEED in read_speeds(tmp_path)


# -- the run's events --------------------------------------------------------------------------


def test_a_run_that_has_ended_is_told_by_its_files(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="x") as writer:
        writer.log(1, loss=1.0)
    assert record_evaluation(writer.run, "step_1", RESULT) == ""
    event = list(read_records(writer.run.events_path))[-1]
    assert event["event"] == EVENT
    assert event_text(event) == "step_1 on val.bin: loss 2.5, 1.25 bits per byte, 1k tokens"
    assert pending(writer.run.control) == []


def test_a_run_that_lives_is_asked(tmp_path: Path) -> None:
    told: list[tuple[str, dict[str, object]]] = []
    with RunWriter(tmp_path, name="x") as writer:
        assert record_evaluation(writer.run, "step_1", RESULT, SPEED) == ""
        (request,) = pending(writer.run.control)
        assert request.action == "evaluated"
        answer = serve_evaluated(request.arguments, lambda kind, **f: told.append((kind, f)))
        request.remove()
    assert answer == "the evaluation of step_1 is in the events"
    assert told == [(EVENT, event_fields("step_1", RESULT, SPEED))]
    assert told[0][1]["decode"] == SPEED.decode


def test_a_run_that_lives_on_another_host_is_asked(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="x") as writer:
        writer.log(1, loss=1.0)
    beats = HeartbeatFile(writer.run.heartbeat_path, host="elsewhere")
    beats.beat()
    beats.close()
    assert record_evaluation(writer.run, "step_1", RESULT) == ""
    assert [request.action for request in pending(writer.run.control)] == ["evaluated"]
    assert EVENT not in [event["event"] for event in read_records(writer.run.events_path)]


def test_a_diverged_model_is_told_of_too(tmp_path: Path) -> None:
    fields = event_fields("step_1", replace(RESULT, total=replace(TOTAL, loss=math.nan)))
    told: list[dict[str, object]] = []
    serve_evaluated(fields, lambda kind, **f: told.append({"event": kind, **f}))
    assert event_text(told[0]).startswith("step_1 on val.bin: loss nan")


@pytest.mark.parametrize(
    "change",
    [
        {"name": 5},
        {"loss": "low"},
        {"decode": "fast"},
        {"more": 1},
        {"nonfinite": ["loss"]},
        {"nonfinite": {"loss": "\x1b[2J"}},
        {"nonfinite": {"name": "nan"}},
    ],
)
def test_what_is_no_record_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UserError, match="is not the record of an evaluation"):
        serve_evaluated({**event_fields("step_1", RESULT), **change}, lambda *_a, **_k: None)


def test_a_run_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    run = create_run(tmp_path, "x")
    run.events_path.mkdir()
    assert "could not be written into the events" in record_evaluation(run, "step_1", RESULT)


SUITE = SuiteResult(
    suite="tasks",
    judge="rustc 1.95.0",
    sha256="cd" * 32,
    tasks=12,
    answers=24,
    settings={"samples": 2, "temperature": 0.8},
    figures={"compile_rate": Figure(0.5, 0.25, 0.75, 24), "reward": Figure(0.25)},
    time=6.0,
    seconds=2.0,
    command="trainer eval --checkpoint /home/ada/x",
)


def test_suites_and_data_sets_keep_each_other(tmp_path: Path) -> None:
    add_suites(tmp_path, [SUITE])
    add_evaluation(tmp_path, [RESULT], SPEED)
    add_suites(tmp_path, [replace(SUITE, settings={"samples": 1}), replace(SUITE, time=7.0)])
    assert read_evaluations(tmp_path) == [RESULT]
    assert [suite.time for suite in read_suites(tmp_path)] == [6.0, 7.0]
    assert [suite.time for suite in newest_suites(read_suites(tmp_path))] == [7.0]
    assert "/home/ada" not in json.dumps(without_paths(tmp_path))


def test_a_suite_is_told_to_its_run_alive_or_not(tmp_path: Path) -> None:
    told: list[dict[str, object]] = []
    run = create_run(tmp_path, "tiny")
    assert record_suite(run, "step_5", SUITE) == ""
    event = list(read_records(run.path / "events.jsonl"))[-1]
    assert event["figures"] == {"compile_rate": 0.5, "reward": 0.25}
    assert event_text(event) == "step_5 on tasks: compiles 50.0 %"
    with RunWriter(run=run):
        assert record_suite(run, "step_5", SUITE) == ""
        [request] = pending(run.control)
        message = serve_evaluated(request.arguments, lambda _kind, **fields: told.append(fields))
        request.remove()
    assert message == "the evaluation of step_5 is in the events"
    assert told[0]["figures"] == event["figures"]
    with pytest.raises(UserError, match="is not the record of an evaluation"):
        serve_evaluated({**suite_fields("step_5", SUITE), "figures": "none"}, told.append)


@given(JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_suites_can_be_read(tmp_path: Path, value: object) -> None:
    entry = {**SUITE.to_json(), "figures": {"x": value}, "settings": value, "notes": value}
    (tmp_path / EVALUATION).write_bytes(encode_json({"suites": [value, entry]}))
    read_suites(tmp_path)
    add_suites(tmp_path, [SUITE])
    assert SUITE in read_suites(tmp_path)
