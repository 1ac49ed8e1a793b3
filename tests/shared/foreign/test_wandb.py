"""W&B's offline files, written here chunk by chunk; tests/peers reads real ones."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.foreign.interface import Found
from shared.foreign.registry import format_named
from shared.foreign.walking import Walk
from shared.foreign.wandb_blocks import BLOCK, HEADER
from shared.foreign.wandb_proto import message
from tests.shared.foreign.making import numbers, read_all

ANY_CASE = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
RUN, NAME = "offline-run-20260101_000000-abc", "run-abc.wandb"


def log_file(records: Sequence[bytes]) -> tuple[bytes, list[list[tuple[int, int]]]]:
    """A file of these records, and where the chunks of each lie."""
    data, places = bytearray(HEADER), []
    for record in records:
        own, rest, first = [], record, True
        while first or rest:
            left = BLOCK - len(data) % BLOCK
            if left < 7:
                data += bytes(left)
                continue
            part, rest = rest[: left - 7], rest[left - 7 :]
            kind = (1 if not rest else 2) if first else (4 if not rest else 3)
            own.append((len(data), len(data) + 7 + len(part)))
            data += struct.pack("<IHB", crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
        places.append(own)
    return bytes(data), places


def items(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"nested_key": k.split("."), "value_json": json.dumps(v)} for k, v in values.items()]


def history(at: int, /, **values: Any) -> bytes:
    told = {"_step": at, "_timestamp": 1e9 + at, **values}
    record = {"history": {"item": items(told), "step": {"num": at}}}
    return bytes(message("Record")(**record).SerializeToString())


def other(**fields: Any) -> bytes:
    return bytes(message("Record")(**fields).SerializeToString())


def written(tmp_path: Path, data: bytes) -> Found:
    folder = tmp_path / "wandb" / RUN
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_bytes(data)
    return Found(folder, "W&B", name=RUN)


def points(steps: Sequence[int]) -> list[tuple[int, str]]:
    return [(step, repr(float(step))) for step in steps]


def test_a_run_is_read_with_its_facts(tmp_path: Path) -> None:
    settings_ = {"key": "model", "value_json": '{"width": 8, "name": "x"}'}
    run = {
        "run_id": "abc",
        "display_name": "mine",
        "project": "p",
        "tags": ["a"],
        "host": "h",
        "start_time": {"seconds": 1_000},
        "config": {"update": [settings_, {"key": "_wandb", "value_json": "{}"}]},
    }
    data, _ = log_file(
        [
            other(run=run),
            other(stats={"item": [{"key": "cpu", "value_json": "12.5"}]}),
            history(0, loss=float("nan"), n={"_type": "x"}, **{"a.b": 2, "h._type": "histogram"}),
            history(7, loss=0.5, step=3, text="x"),
            other(exit={"exit_code": 1, "runtime": 60}),
        ]
    )
    written(tmp_path, data)
    (tmp_path / "wandb" / RUN / "files").mkdir()
    (tmp_path / "wandb" / RUN / "files" / "x.csv").write_text("step,loss\n1,2\n")
    (tmp_path / "wandb" / "latest-run").symlink_to(RUN)
    [found] = Walk(tmp_path).find()
    reader = read_all(found)
    assert numbers(reader.table) == {
        "loss": [(0, "nan"), (7, "0.5")],
        "a.b": [(0, "2.0")],
        "system/cpu": [(0, "12.5")],
        "logged/step": [(7, "3.0")],
    }
    assert reader.table.series("time").values.tolist() == [1e9, 1e9 + 7]
    facts = reader.facts
    assert (facts.name, facts.host, facts.tags, facts.status) == ("mine", "h", ("a",), "failed")
    assert (facts.started_at, facts.ended_at, facts.problem) == (1_000, 1_060, "")
    assert facts.config == {"model.width": "8", "model.name": "x", "wandb.project": "p"}
    assert facts.notes == ("1 value of type histogram is not drawn",)


def test_numbers_may_be_typed_and_what_wandb_keeps_for_itself_is_no_metric(tmp_path: Path) -> None:
    typed = [
        {"nested_key": ["_step"], "integer": 3},
        {"nested_key": ["a", "b"], "number": 0.5},
        {"nested_key": ["n"], "integer": -2},
        {"nested_key": ["_wandb", "runtime"], "value_json": "7"},
        {"nested_key": ["_mine", "_x"], "value_json": "8"},
    ]
    data, _ = log_file([other(history={"item": typed})])
    assert numbers(read_all(written(tmp_path, data)).table) == {
        "a.b": [(3, "0.5")],
        "n": [(3, "-2.0")],
        "_mine._x": [(3, "8.0")],
    }


def test_records_cross_blocks(tmp_path: Path) -> None:
    long = "x" * 70_000
    data, places = log_file([history(s, loss=float(s), text=long) for s in range(4)])
    assert max(map(len, places)) > 2
    reader = read_all(written(tmp_path, data))
    assert numbers(reader.table) == {"loss": points(range(4))}
    assert not reader.facts.problem


@pytest.mark.parametrize("text", ["", "x" * 20_000], ids=["short", "long"])
def test_a_flipped_byte_loses_one_record_and_is_named(tmp_path: Path, text: str) -> None:
    records = [history(s, loss=float(s), text=text) for s in range(6)]
    data, places = log_file(records)

    @ANY_CASE
    @given(at=st.integers(0, len(data) - 1), flip=st.integers(1, 255))
    def flipped(at: int, flip: int) -> None:
        damaged = bytearray(data)
        damaged[at] ^= flip
        reader = read_all(written(tmp_path, bytes(damaged)))
        hit = [s for s, own in enumerate(places) if any(a <= at < b for a, b in own)]
        assert numbers(reader.table)["loss"] == points([s for s in range(6) if s not in hit])
        # The last chunk may look as if it were not all there yet; nobody reads the padding.
        assert reader.facts.problem or hit in ([5], [])

    flipped()


@ANY_CASE
@given(cuts=st.lists(st.integers(0, 90_000), max_size=5))
def test_a_growing_file_gives_what_a_whole_one_gives(tmp_path: Path, cuts: list[int]) -> None:
    data, _ = log_file([history(s, loss=float(s), text="x" * s * 6_000) for s in range(6)])
    found = written(tmp_path, b"")
    reader = format_named("W&B").open(found)
    with (found.path / NAME).open("ab") as file:
        for end in [*sorted(cuts), len(data)]:
            file.write(data[file.tell() : end])
            file.flush()
            while reader.poll():
                pass
    assert numbers(reader.table)["loss"] == points(range(6))
    assert not reader.facts.problem


@ANY_CASE
@given(junk=st.binary(max_size=100), body=st.binary(max_size=40))
def test_junk_is_no_error(tmp_path: Path, junk: bytes, body: bytes) -> None:
    whole, _ = log_file([body, history(1, loss=1.0)])
    read_all(written(tmp_path, junk))
    assert numbers(read_all(written(tmp_path, whole)).table)["loss"] == points([1])


def test_a_block_of_junk_is_skipped(tmp_path: Path) -> None:
    first, _ = log_file([history(1, loss=1.0)])
    second, _ = log_file([history(2, loss=2.0)])
    junk = b"\xff" * (BLOCK - len(first))
    reader = read_all(written(tmp_path, first + junk + second[len(HEADER) :]))
    assert numbers(reader.table)["loss"] == points([1, 2])
    assert reader.facts.problem == f"{NAME}: 1 damaged record left out"


def test_a_replaced_file_starts_over(tmp_path: Path) -> None:
    found = written(tmp_path, log_file([history(1, loss=1.0)])[0])
    reader = read_all(found)
    (found.path / NAME).unlink()
    written(tmp_path, log_file([history(2, loss=2.0)])[0])
    while reader.poll():
        pass
    assert numbers(reader.table)["loss"] == points([2])
