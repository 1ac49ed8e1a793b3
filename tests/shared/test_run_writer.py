"""The writing side, watched through the reading side."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import yaml

from shared.control.pulse import Timings
from shared.control.requests import Request, pending, submit
from shared.errors import RunError, UserError
from shared.files import write_json
from shared.ownership.health import observe
from shared.ownership.heartbeat import read_beat
from shared.ownership.lock import LockHeldError, lock_is_held
from shared.run.directory import RunDirectory, create_run
from shared.run.metrics_log import MetricsReader, MetricsTable
from shared.run.record_lines import read_records
from shared.run.records import RunState
from shared.run_writer import MAX_TRANSITIONS, RunWriter


def state_of(run: RunDirectory) -> RunState:
    state = run.read_state()
    assert state is not None
    return state


def events_of(run: RunDirectory, kind: str) -> list[dict[str, Any]]:
    return [e for e in read_records(run.events_path) if e["event"] == kind]


def table_of(run: RunDirectory) -> MetricsTable:
    return MetricsReader(run.metrics_path).read_all()


def test_a_run_from_its_start_to_its_end(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "runs", name="my model", config={"seed": 1}, max_steps=3) as writer:
        run = writer.run
        assert state_of(run).status == "running"
        assert lock_is_held(run.lock_path)
        for step in (1, 2, 3):
            writer.log(step, loss=4.0 / step, learning_rate=0.1, tokens_total=step * 64)
    state = state_of(run)
    assert (state.run_id, state.run_name, state.status) == (run.run_id, "my model", "completed")
    assert (state.current_step, state.max_steps, state.tokens_total) == (3, 3, 192)
    assert (state.best_loss, state.best_step, state.best_metric) == (4 / 3, 3, "loss")
    assert (state.attempt, state.pid, state.host) == (1, os.getpid(), os.uname().nodename)
    assert state.exit is not None
    assert state.exit.code == 0
    assert state.started_at <= state.ended_at <= state.updated_at  # type: ignore[operator]
    assert not lock_is_held(run.lock_path)
    assert yaml.safe_load(run.config_path.read_text()) == {"seed": 1}
    assert table_of(run).series("loss").values.tolist() == [4.0, 2.0, 4 / 3]
    assert table_of(run).keys() == ["loss", "learning_rate", "tokens_total"]
    assert [e["status"] for e in events_of(run, "status")] == ["running", "completed"]
    assert read_beat(run.heartbeat_path).step == 3  # type: ignore[union-attr]
    files = {"config.yaml", "run_state.json", "metrics.jsonl", "events.jsonl", "train.log"}
    folders = {"checkpoints", "control", "samples"}
    assert {p.name for p in run.path.iterdir()} == files | folders | {"heartbeat", "lock"}


def test_the_best_follows_the_validation_once_there_is_one(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:

        def best(step: int, **metrics: Any) -> tuple[Any, ...]:
            writer.log(step, **metrics)
            return (writer.state.best_loss, writer.state.best_step, writer.state.best_metric)

        assert best(1, loss=math.nan) == (None, None, "")
        assert best(2, loss=-math.inf) == (None, None, "")
        assert best(3, loss=3.0) == (3.0, 3, "loss")
        assert best(4, loss=5.0) == (3.0, 3, "loss")
        assert best(5, loss=2.0, val_loss=4.0) == (4.0, 5, "val_loss")
        assert best(6, loss=1.0) == (4.0, 5, "val_loss")
        assert best(7, val_loss=math.nan) == (4.0, 5, "val_loss")
        assert best(8, val_loss=3.5) == (3.5, 8, "val_loss")
    assert state_of(writer.run).best_loss == 3.5


def test_a_divergence_is_in_the_state_and_the_series(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        writer.log(1, loss=1.0)
        writer.log(2, loss=math.nan)
        writer.log(3, loss=np.float32("inf"))
        writer.log(4, loss=np.float32("nan"))
    values = table_of(writer.run).series("loss").values
    assert repr(values.tolist()) == "[1.0, nan, inf, nan]"
    assert math.isnan(state_of(writer.run).current_loss)  # type: ignore[arg-type]


class Tensor:
    """One number in a box, as torch hands out its losses."""

    def item(self) -> float:
        return 1.5


def test_numbers_of_other_libraries_are_numbers(tmp_path: Path) -> None:
    with RunWriter(tmp_path, max_steps=np.int64(9)) as writer:
        writer.log(
            np.int64(5), loss=Tensor(), a=np.float32(2), b=np.array([3.0]), c=np.array([1.0, 2.0])
        )
        writer.log(
            6, loss=np.float64(1.25), tokens_total=np.int32(7), d=10**30, e="\udc80", f=Path()
        )
    table, state = table_of(writer.run), state_of(writer.run)
    assert table.bad_lines == 0
    assert {k: table.series(k).values.tolist() for k in table.keys()} == {  # noqa: SIM118
        "loss": [1.5, 1.25],
        "a": [2.0],
        "b": [3.0],
        "tokens_total": [7.0],
        "d": [1e30],
    }
    assert (state.current_loss, state.current_step, state.tokens_total) == (1.25, 6, 7)
    assert state.max_steps == 9


def test_phases_are_recorded_when_they_change(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        writer.set_phase("warmup", 0)
        writer.log(1, loss=1.0)
        writer.set_phase("warmup", 1)
        writer.set_phase("full", 1)
        writer.log(2, loss=1.0)
        writer.log(3, loss=1.0, phase="correct")
    state = state_of(writer.run)
    assert [(t.step, t.from_phase, t.to) for t in state.phase_transitions] == [
        (0, "", "warmup"),
        (1, "warmup", "full"),
        (3, "full", "correct"),
    ]
    assert state.current_phase == "correct"
    phases = [r["phase"] for r in read_records(writer.run.metrics_path)]
    assert phases == ["warmup", "full", "correct"]
    assert [e["phase"] for e in events_of(writer.run, "phase")] == ["warmup", "full", "correct"]


def test_attempts_count_up_and_the_newest_wins(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="x", max_steps=10) as writer:
        run = writer.run
        for step in (1, 2, 3):
            writer.log(step, loss=1.0)
    with RunWriter(run=run) as writer:
        assert writer.state.attempt == 2
        assert (writer.state.exit, writer.state.ended_at, writer.state.max_steps) == (
            None,
            None,
            10,
        )
        for step in (2, 3, 4):
            writer.log(step, loss=2.0)
    assert table_of(run).series("loss").values.tolist() == [1.0, 2.0, 2.0, 2.0]
    assert [(e["attempt"], e["previous_status"]) for e in events_of(run, "started")] == [
        (1, None),
        (2, "completed"),
    ]
    assert state_of(run).run_name == "x"
    assert state_of(run).best_loss == 1.0


def test_a_lost_state_does_not_make_new_records_yield_to_old(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        run = writer.run
    for _ in range(2):
        with RunWriter(run=run) as writer:
            writer.log(1, loss=float(writer.state.attempt))
    run.state_path.write_bytes(b"")  # a power cut
    with RunWriter(run=run) as writer:
        assert writer.state.attempt == 4
        writer.log(1, loss=9.0)
    assert table_of(run).series("loss").values.tolist() == [9.0]


# -- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code", "reason"),
    [
        (ValueError("bad\nnews\x1b"), "failed", 1, "ValueError: bad news"),
        (KeyboardInterrupt(), "cancelled", 130, "interrupted from the keyboard"),
        (SystemExit(0), "completed", 0, ""),
        (SystemExit(3), "failed", 3, "SystemExit: 3"),
        (RunError("no room"), "failed", 1, "RunError: no room"),
        (UserError("\udc80"), "failed", 2, "UserError:"),
    ],
)
def test_how_it_ended_is_recorded(
    tmp_path: Path, error: BaseException, status: str, code: int, reason: str
) -> None:
    with pytest.raises(type(error)), RunWriter(tmp_path) as writer:
        writer.say("working")
        raise error
    state = state_of(writer.run)
    assert state.exit is not None
    assert (state.status, state.exit.code) == (status, code)
    assert state.exit.reason.strip() == reason
    assert state.exit.last_log_lines[0] == "working"
    log = writer.run.log_path.read_text()
    assert ("Traceback" in log) == isinstance(error, ValueError)
    assert not lock_is_held(writer.run.lock_path)
    assert observe(writer.run, state).status == status


def test_finishing_twice_keeps_the_first(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        writer.finish("preempted", 75, "asked to requeue")
        writer.finish("failed", 1)
    state = state_of(writer.run)
    assert state.exit is not None
    assert (state.status, state.exit.code, state.exit.reason) == (
        "preempted",
        75,
        "asked to requeue",
    )
    assert [e["status"] for e in events_of(writer.run, "status")] == ["running", "preempted"]


def test_only_one_writer_per_run(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        before = writer.run.state_path.read_bytes()
        with pytest.raises(LockHeldError):
            RunWriter(run=writer.run)
        assert state_of(writer.run).attempt == orjson.loads(before)["attempt"] == 1


def test_a_failed_opening_gives_the_lock_back(tmp_path: Path) -> None:
    run = create_run(tmp_path, "x")
    with pytest.raises(TypeError):
        RunWriter(run=run, no_such_field=1)
    run.events_path.unlink()
    run.events_path.mkdir()
    with pytest.raises(UserError, match="Cannot write in"):
        RunWriter(run=run)
    run.events_path.rmdir()
    (run.path / ".run_state.json.tmp-99-0").write_text("left by a killed writer")
    with RunWriter(run=run):
        assert not list(run.path.glob(".run_state*"))
    assert not list(run.path.glob(".*"))
    with pytest.raises(UserError, match="Cannot write in"):
        RunWriter(run=RunDirectory(tmp_path / "absent"))


def test_a_full_disk_does_not_stop_the_training(
    tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    full = threading.Event()

    def write(path: Path, value: Mapping[str, Any], *, durable: bool) -> None:
        if full.is_set():
            raise OSError(28, "No space left on device")
        write_json(path, value, durable=durable)

    with RunWriter(tmp_path, write_state=write) as writer:
        full.set()
        writer.log(1, loss=1.0)
        writer.set_status("paused")
        assert state_of(writer.run).status == "running"
        full.clear()
        wait_until(lambda: state_of(writer.run).status == "paused")
        full.set()
        with pytest.raises(OSError, match="No space"):
            writer.finish("completed")
    assert not lock_is_held(writer.run.lock_path)


# -- the log -------------------------------------------------------------------------------------


def test_what_is_said_is_in_the_log_and_on_the_console(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunWriter(tmp_path) as writer:
        writer.say("step 1\nstep 2\x1b[2J\udc80")
        for number in range(30):
            writer.say(f"line {number}")
    lines = writer.run.log_path.read_text().splitlines()
    assert lines[:3] == ["step 1", "step 2[2J", "line 0"]
    assert capsys.readouterr().out.splitlines() == lines
    state = state_of(writer.run)
    assert state.exit is not None
    assert state.exit.last_log_lines == tuple(f"line {n}" for n in range(10, 30))


DETACHED = """
import sys
from pathlib import Path
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
with RunWriter(run=RunDirectory(Path(sys.argv[1]))) as writer:
    writer.say("once")
"""


def test_a_console_that_goes_into_the_log_does_not_double_it(tmp_path: Path) -> None:
    import subprocess
    import sys

    run = create_run(tmp_path, "x")
    with run.log_path.open("ab") as log:
        subprocess.run([sys.executable, "-c", DETACHED, str(run.path)], stdout=log, check=True)
    assert run.log_path.read_text() == "once\n"


# -- requests ------------------------------------------------------------------------------------


def test_requests_arrive_once_and_are_answered(
    tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    with RunWriter(tmp_path) as writer:
        assert writer.take_requests() == []
        ids = [submit(writer.run.control, action) for action in ("pause", "evil\x1b[2J")]
        taken: list[Request] = []

        def both() -> bool:
            taken.extend(writer.take_requests())
            return len(taken) >= 2

        wait_until(both)
        assert [r.request_id for r in taken] == ids
        writer.answer(taken[0], ok=True, message="paused at step 0")
        writer.answer(taken[1], ok=False, message="unknown action")
        assert pending(writer.run.control) == []
        late = submit(writer.run.control, "checkpoint")
    assert writer.take_requests() in ([], taken[2:])
    answers = events_of(writer.run, "answer")
    assert [(a["request"], a["action"], a["ok"]) for a in answers] == [
        (ids[0], "pause", True),
        (ids[1], "evil[2J", False),
        (late, "checkpoint", False),
    ]
    assert answers[2]["message"] == "the run ended (completed) before it could act"
    assert pending(writer.run.control) == []


def test_what_was_taken_but_not_answered_does_not_reach_the_next_attempt(
    tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    with RunWriter(tmp_path) as writer:
        submit(writer.run.control, "stop")
        wait_until(writer.take_requests)
    assert pending(writer.run.control) == []
    assert [a["ok"] for a in events_of(writer.run, "answer")] == [False]


def test_a_request_to_a_trainer_that_died_is_not_for_the_next_one(
    tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    with RunWriter(tmp_path) as writer:
        run = writer.run
    submit(run.control, "stop")
    [stale] = run.control.iterdir()
    stale.rename(
        stale.with_name(f"{1_000_000_000:019d}-{'a' * 8}.json")
    )  # long before the last beat
    fresh = submit(run.control, "checkpoint")
    with RunWriter(run=run) as writer:
        [taken] = wait_until(writer.take_requests)
        assert taken.request_id == fresh
        [answer] = events_of(run, "answer")
        assert (answer["action"], answer["ok"]) == ("stop", False)


# -- the state while it changes ------------------------------------------------------------------


def test_the_state_is_whole_at_every_moment(tmp_path: Path) -> None:
    timings = Timings(state=0.0, look=0.0005)
    stop, seen, faults = threading.Event(), set(), []

    def hammer(path: Path) -> None:
        step = 0
        while not stop.is_set():
            try:
                state = RunState.from_json(orjson.loads(path.read_bytes()))
            except (OSError, ValueError) as error:
                faults.append(error)
                return
            if state.current_step < step or state.current_loss != state.current_step:
                faults.append(AssertionError(state))
            step = state.current_step
            seen.add(step)

    with RunWriter(tmp_path, current_loss=0.0, max_steps=10**6, timings=timings) as writer:
        reader = threading.Thread(target=hammer, args=(writer.run.state_path,))
        reader.start()
        step = 0
        while len(seen) < 50 and not faults and step < 10**6:
            step += 1
            writer.log(step, loss=float(step))
            if step % 100 == 0:
                writer.set_status("paused" if step % 200 else "running")
                # What is durable stays: no older snapshot may land on it.
                assert state_of(writer.run).status == writer.state.status
        stop.set()
        reader.join()
    assert not faults
    assert len(seen) >= 50


def test_the_pulse_writes_the_state_and_the_eta(
    tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    with RunWriter(tmp_path, max_steps=1000) as writer:
        writer.log(1, loss=1.0)
        writer.progress()
        writer.log(2, loss=0.5)
        state = wait_until(
            lambda: (
                (s := state_of(writer.run)).current_step == 2 and s.eta_seconds is not None and s
            )
        )
        assert state.eta_seconds == writer.eta_seconds()
        assert state.eta_seconds > 0
        assert state.current_loss == 0.5
        writer.update(latest_checkpoint="step_2", durable=True)
        assert state_of(writer.run).latest_checkpoint == "step_2"
    assert state_of(writer.run).eta_seconds is None


def test_logging_a_step_is_one_system_call_of_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cheap by construction: no file is opened, flushed or listed on the way."""
    with RunWriter(tmp_path, timings=Timings(look=3600)) as writer:
        writes: list[int] = []
        real_write, me = os.write, threading.get_ident()

        def counted(fd: int, data: bytes) -> int:
            if threading.get_ident() == me:
                writes.append(len(data))
            return real_write(fd, data)

        def forbidden(*_: object, **__: object) -> None:
            assert threading.get_ident() != me

        monkeypatch.setattr("os.write", counted)
        for name in ("os.fsync", "os.open", "os.listdir"):
            real = getattr(os, name.partition(".")[2])
            monkeypatch.setattr(name, lambda *a, real=real, **k: forbidden() or real(*a, **k))
        for step in range(100):
            writer.log(step, loss=1.0)
            assert writer.take_requests() == []
        monkeypatch.undo()
    assert len(writes) == 100


def test_the_record_of_a_step(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        writer.log(7, loss=0.5, was_predicted=True, prediction_error=None, attempt=99)
    record = json.loads(writer.run.metrics_path.read_text())
    assert record.pop("time") > 0
    assert record == {
        "step": 7,
        "loss": 0.5,
        "was_predicted": True,
        "prediction_error": None,
        "attempt": 1,
        "phase": "",
    }
    assert dataclasses.asdict(writer.state)["current_step"] == 7


def test_the_eta_is_the_pace_of_all_that_happens(tmp_path: Path) -> None:
    """The first step, which compiles, and pauses do not count; evaluations between steps do."""
    clock = [1000.0]
    with RunWriter(tmp_path, max_steps=100, clock=lambda: clock[0]) as writer:
        clock[0] += 60
        writer.log(1, loss=1.0, step_time_ms=60_000)
        for step in range(2, 12):
            clock[0] += 1 + (5 if step == 6 else 0)  # an evaluation of 5 s after the sixth
            writer.log(step, loss=1.0, step_time_ms=1000)
        assert writer.eta_seconds() == pytest.approx(89 * 1.5)
        assert writer.step_seconds == pytest.approx(1.0)
        writer.set_status("paused")
        clock[0] += 3600
        writer.set_status("running")
        for step in range(12, 14):
            clock[0] += 1
            writer.log(step, loss=1.0, step_time_ms=1000)
        assert writer.eta_seconds() == pytest.approx(87)


def test_a_config_of_any_values(tmp_path: Path) -> None:
    with RunWriter(tmp_path, config={"data": Path("x"), "lr": 1e-3, "sizes": (1, 2)}) as writer:
        pass
    assert yaml.safe_load(writer.run.config_path.read_text()) == {
        "data": "x",
        "lr": 1e-3,
        "sizes": [1, 2],
    }


def test_the_state_of_a_run_that_changes_phase_all_the_time_stays_small(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="hybrid") as writer:
        for step in range(1, MAX_TRANSITIONS + 11):
            writer.set_phase(("full", "predict")[step % 2], step)
    state = writer.run.read_state()
    assert state is not None
    steps = [change.step for change in state.phase_transitions]
    assert steps == list(range(11, MAX_TRANSITIONS + 11))
