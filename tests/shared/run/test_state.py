"""The one writer of `run_state.json`, and its rules."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.control.idle_run import IdleRun
from shared.files import write_json
from shared.json_text import encode_json
from shared.run.directory import RunDirectory, create_run
from shared.run.records import ExitRecord, RunState
from shared.run.state import StateFile
from shared.run_writer import RunWriter
from tests.waiting import SECONDS

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(tmp_path, "x")


def content(run: RunDirectory) -> dict[str, Any]:
    value = json.loads(run.state_path.read_bytes())
    assert isinstance(value, dict)
    return value


# -- the file ----------------------------------------------------------------------------------


def test_a_new_state_begins_with_the_defaults(run: RunDirectory) -> None:
    file = StateFile(run)
    assert not file.found
    file.update(status="queued", max_steps=5)
    expected = RunState(run_id=run.run_id, status="queued", max_steps=5)
    assert run.state_path.read_bytes() == encode_json(expected.to_json(), indent=True) + b"\n"
    again = StateFile(run)
    assert again.found
    assert again.state == expected


def test_an_update_changes_only_what_it_names(run: RunDirectory) -> None:
    StateFile(run).update(current_step=7, exit=ExitRecord(1, "why", ("last",)), best_loss=1.5)
    before = content(run)
    StateFile(run).update(hub_repo="me/x")
    assert content(run) == {**before, "hub_repo": "me/x"}


def test_a_state_that_cannot_be_read_is_replaced(run: RunDirectory) -> None:
    run.state_path.write_bytes(b'{"status": "runn')
    file = StateFile(run)
    assert not file.found
    file.update(status="failed")
    assert content(run)["status"] == "failed"


# -- unknown keys ------------------------------------------------------------------------------

NEWER = {
    "status": "preempted",
    "colour": {"a": [1, 2]},
    "current_loss": None,
    "reward": None,
    "nothing": None,
    "nonfinite": {"current_loss": "nan", "reward": "-inf"},
}


def newer(run: RunDirectory) -> None:
    run.state_path.write_text(json.dumps(NEWER))


def assert_kept(run: RunDirectory) -> None:
    value = content(run)
    assert value["colour"] == NEWER["colour"]
    assert (value["reward"], value["nothing"]) == (None, None)
    assert value["nonfinite"]["reward"] == "-inf"
    assert "nothing" not in value["nonfinite"]


def test_keys_of_a_newer_program_stay(run: RunDirectory) -> None:
    newer(run)
    file = StateFile(run)
    file.update(hub_repo="me/x")
    assert_kept(run)
    assert content(run)["nonfinite"]["current_loss"] == "nan"
    assert math.isnan(file.state.current_loss or 0.0)
    file.update(current_loss=2.0)
    assert content(run)["nonfinite"] == {"reward": "-inf"}


def test_keys_of_a_newer_program_stay_whoever_writes(run: RunDirectory) -> None:
    newer(run)
    with IdleRun(run) as idle:
        idle.queue()
    assert_kept(run)
    with RunWriter(run=run) as writer:
        writer.log(1, loss=1.0)
    assert_kept(run)
    assert content(run)["status"] == "completed"


def test_a_field_that_does_not_exist_is_an_error_in_code(run: RunDirectory) -> None:
    file = StateFile(run)
    with pytest.raises(TypeError, match="RunState has no field colour"):
        file.set(colour=1, status="failed")
    assert file.state.status == "queued"
    assert not file.dirty
    newer(run)
    with pytest.raises(TypeError):  # even where the file has that key
        StateFile(run).update(colour=1)
    with IdleRun(run) as idle, pytest.raises(TypeError):
        idle.update(colour=1)
    with RunWriter(run=run) as writer, pytest.raises(TypeError):
        writer.update(colour=1)


# -- a full disk -------------------------------------------------------------------------------


class Disk:
    """`write_json` on a disk that may be full."""

    def __init__(self) -> None:
        self.full = False

    def __call__(self, path: Path, value: Mapping[str, Any], *, durable: bool) -> None:
        if self.full:
            raise OSError(28, "No space left on device", str(path))
        write_json(path, value, durable=durable)


def test_a_failed_write_is_raised_and_the_change_is_not_lost(run: RunDirectory) -> None:
    disk = Disk()
    file = StateFile(run, write=disk)
    file.update(status="running")
    disk.full = True
    with pytest.raises(OSError, match="No space"):
        file.update(status="paused")
    assert content(run)["status"] == "running"
    assert file.state.status == "paused"
    assert file.dirty
    assert file.problem is not None
    disk.full = False
    file.save()
    assert content(run)["status"] == "paused"
    assert not file.dirty
    assert file.problem is None


def test_a_check_can_prevent_the_write(run: RunDirectory) -> None:
    def refuse() -> None:
        raise OSError(116, "another directory is in its place")

    file = StateFile(run, check=refuse)
    with pytest.raises(OSError, match="another directory"):
        file.update(status="running")
    assert not run.state_path.exists()
    assert file.dirty


# -- threads -----------------------------------------------------------------------------------


def test_an_older_state_never_lands_on_a_newer_one(run: RunDirectory) -> None:
    begun, second_wrote = threading.Event(), threading.Event()
    main = threading.get_ident()

    def write(path: Path, value: Mapping[str, Any], *, durable: bool) -> None:
        if threading.get_ident() != main:
            begun.set()
            second_wrote.wait(0.5)  # it must not happen meanwhile
        write_json(path, value, durable=durable)
        if threading.get_ident() == main:
            second_wrote.set()

    file = StateFile(run, write=write)
    slow = threading.Thread(target=file.update, kwargs={"current_step": 1})
    slow.start()
    assert begun.wait(SECONDS)
    file.update(current_step=2)
    slow.join()
    assert content(run)["current_step"] == 2


def test_finished_steps_change_the_state_as_if_each_had_been_written(run: RunDirectory) -> None:
    """While another thread writes it all the time."""
    losses = [3.0, 2.0, math.nan, 2.5, 1.5, 4.0] * 500
    file, ended = StateFile(run), threading.Event()

    def write() -> None:
        while not ended.is_set():
            if file.dirty:
                file.save(durable=False)

    writer = threading.Thread(target=write)
    writer.start()
    for step, loss in enumerate(losses, start=1):
        file.finish_step(step, {"loss": loss, "tokens_total": 8 * step}, {"total_forward": step})
    ended.set()
    writer.join()
    assert file.fields["current_step"] == len(losses)
    assert file.fields["total_forward"] == len(losses)
    file.set(best_loss=9.0)  # after the steps, so it is not overwritten by them
    file.save(durable=False)
    found = content(run)
    assert (found["best_loss"], found["best_step"], found["best_metric"]) == (9.0, 5, "loss")
    assert (found["current_loss"], found["tokens_total"]) == (4.0, 8 * len(losses))
    assert not file.dirty


def test_a_finished_step_is_a_change_that_is_not_written_yet(run: RunDirectory) -> None:
    file = StateFile(run)
    file.save()
    file.finish_step(1, {"loss": 2.0, "val_loss": 1.0, "mfu": None}, {})
    assert file.dirty
    assert file.state.val_loss == 1.0
    assert file.dirty


def test_the_stamps_are_set_at_every_write(run: RunDirectory) -> None:
    ticks = iter((1.0, 2.0))
    file = StateFile(run, stamps=lambda: {"updated_at": next(ticks)})
    file.update(status="running")
    assert content(run)["updated_at"] == 1.0
    file.save()
    assert content(run)["updated_at"] == 2.0


# -- one owner ---------------------------------------------------------------------------------

WRITING = re.compile(
    r"(write_json|replace_file|AppendLog|open|write_bytes|write_text)\(\s*[\w.()]*"
    r"(state_path|events_path|run_state\.json|events\.jsonl)"
)
OWNERS = {Path("shared/run/state.py"), Path("shared/run/events.py")}


def test_nobody_else_writes_these_files() -> None:
    """A daemon's own `state.json` has a `state_path` too, of a `directory`."""
    found = set()
    for room in ("shared", "trainer", "monitor"):
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text()
            if any("directory.state_path" not in m[0] for m in WRITING.finditer(text)):
                found.add(path.relative_to(ROOT))
    assert found - OWNERS == set()
    assert Path("shared/run/events.py") in found, "the pattern finds nothing any more"
