"""Requests to a run that another program trains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.bridges.steering import NOTHING, Steering, Wish
from shared.control.pulse import Timings
from shared.control.requests import pending, submit
from shared.run.record_lines import read_records
from shared.run_writer import RunWriter
from tests.waiting import until


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RunWriter]:
    with RunWriter(tmp_path, "theirs", timings=Timings(look=0.01)) as writer:
        yield writer


def arrive(writer: RunWriter, action: str, **arguments: Any) -> None:
    waiting = writer.waiting_requests
    submit(writer.run.control, action, arguments)
    until(lambda: writer.waiting_requests > waiting)


def answers(writer: RunWriter) -> list[tuple[str, bool, str]]:
    records = read_records(writer.run.events_path)
    return [(r["action"], r["ok"], r["message"]) for r in records if r["event"] == "answer"]


def test_saving_is_answered_when_the_program_has_saved(writer: RunWriter) -> None:
    steering = Steering(writer)
    assert steering.look(1) == NOTHING
    arrive(writer, "checkpoint")
    assert steering.look(2) == Wish(save=True)
    assert answers(writer) == []
    steering.saved(2, "checkpoint-2")
    assert steering.look(2) == NOTHING
    arrive(writer, "checkpoint")
    assert steering.look(2) == NOTHING, "this step is saved"
    arrive(writer, "checkpoint")
    assert steering.look(3).save
    assert steering.look(4) == NOTHING
    assert answers(writer) == [
        ("checkpoint", True, "saved checkpoint-2"),
        ("checkpoint", True, "checkpoint-2 is saved already"),
        ("checkpoint", False, "no checkpoint was saved after step 3"),
    ]


def test_a_stop_saves_and_ends_a_pause(writer: RunWriter) -> None:
    rounds: list[str] = []

    def while_paused(seconds: float) -> bool:
        rounds.append(writer.state.status)
        if len(rounds) == 2:
            arrive(writer, "stop")
        assert len(rounds) < 10
        return False

    steering = Steering(writer, pause=while_paused)
    arrive(writer, "pause")
    assert steering.look(7) == Wish(save=True, stop=True)
    assert rounds == ["paused", "paused"]
    assert steering.stop_reason.startswith("stopped at step 7 on request of ")
    assert steering.look(7) == Wish(stop=True), "asked once for a checkpoint, then only to stop"
    assert not writer.state.paused


def test_a_pause_lets_the_program_save_and_goes_on(writer: RunWriter) -> None:
    actions = ["checkpoint", "resume"]

    def while_paused(seconds: float) -> bool:
        arrive(writer, actions.pop(0))
        return False

    steering = Steering(writer, pause=while_paused)
    arrive(writer, "pause")
    assert steering.look(3) == Wish(save=True, paused=True)
    steering.saved(3, "checkpoint-3")
    assert steering.look(3) == NOTHING
    assert [a[:2] for a in answers(writer)] == [
        ("pause", True),
        ("checkpoint", True),
        ("resume", True),
    ]
    assert writer.state.status == "running"


def test_ranks_take_turns_in_a_pause(writer: RunWriter) -> None:
    steering = Steering(writer)
    arrive(writer, "pause")
    assert steering.look(3, patience=0.0) == Wish(paused=True)
    arrive(writer, "resume")
    assert steering.look(3, patience=0.0) == NOTHING


def test_what_cannot_be_done_is_refused_in_a_sentence(writer: RunWriter) -> None:
    steering = Steering(writer, can_save=False)
    for action in (
        "checkpoint",
        "resume",
        "prune",
        "uploaded",
        "evaluated",
        "dance\x1b[2J",
        "stop",
    ):
        arrive(writer, action)
    assert steering.look(5) == Wish(stop=True)
    told = answers(writer)
    assert [ok for _, ok, _ in told] == [False] * 6 + [True]
    assert all("\x1b" not in message for _, _, message in told)
    assert pending(writer.run.control) == []
