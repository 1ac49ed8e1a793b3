"""TensorBoard's event files, written here frame by frame; tests/peers reads real ones."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.foreign.event_proto import message
from shared.foreign.interface import Found
from shared.foreign.registry import format_named
from shared.foreign.walking import Walk
from tests.shared.foreign.making import numbers, read_all

NAME = "events.out.tfevents.1700000000.host"
OTHER = "events.out.tfevents.1700000500.host"


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return b"".join(
        (length, struct.pack("<I", masked(length)), data, struct.pack("<I", masked(data)))
    )


def event(step: int, **values: Any) -> bytes:
    """An event with a scalar of each tag; a dict is a value as it is in the message."""
    kinds = {
        tag: value if isinstance(value, dict) else {"simple_value": value}
        for tag, value in values.items()
    }
    found = [{"tag": tag, **kind} for tag, kind in kinds.items()]
    told = message("Event")(wall_time=1e9 + step, step=step, summary={"value": found})
    return frame(told.SerializeToString())


HEADER = frame(message("Event")(file_version="brain.Event:2").SerializeToString())


def written(folder: Path, data: bytes, name: str = NAME) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder


def loss_of(folder: Path) -> list[tuple[int, str]]:
    return numbers(read_all(Found(folder, "TensorBoard")).table).get("loss", [])


def points(steps: Sequence[int]) -> list[tuple[int, str]]:
    return [(step, repr(float(step))) for step in steps]


def test_every_scalar_is_read_with_its_time(tmp_path: Path) -> None:
    data = HEADER + b"".join(event(s, loss=float(s), acc=float("nan")) for s in range(3))
    [found] = Walk(written(tmp_path / "a", data).parent).find()
    table = read_all(found).table
    assert numbers(table) == {
        "loss": points(range(3)),
        "acc": [(s, "nan") for s in range(3)],
    }
    assert table.series("time").values.tolist() == [1e9, 1e9 + 1, 1e9 + 2]
    assert table.last_record == {"step": 2, "time": 1e9 + 2, "loss": 2.0, "acc": pytest.approx(
        float("nan"), nan_ok=True)}  # fmt: skip


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        ({"dtype": 1, "float_val": [2.5]}, 2.5),
        ({"dtype": 2, "double_val": [2.5]}, 2.5),
        ({"dtype": 9, "int64_val": [7]}, 7.0),
        ({"dtype": 1, "tensor_content": np.float32(2.5).tobytes()}, 2.5),
        ({"dtype": 19, "half_val": [int(np.float16(2.5).view(np.uint16))]}, 2.5),
        ({"dtype": 14, "half_val": [0x4020]}, 2.5),
        ({"dtype": 14, "tensor_content": b"\x20\x40"}, 2.5),
        ({"dtype": 4, "int_val": [7]}, 7.0),
        ({"dtype": 1, "float_val": [1.0, 2.0], "tensor_shape": {"dim": [{"size": 2}]}}, None),
        ({"dtype": 7}, None),
    ],
)
def test_scalars_in_tensors(tmp_path: Path, tensor: dict[str, Any], value: float | None) -> None:
    folder = written(tmp_path, event(1, loss={"tensor": tensor}))
    assert loss_of(folder) == ([] if value is None else [(1, repr(value))])


def test_settings_and_what_is_not_drawn(tmp_path: Path) -> None:
    told = message("HParams")(
        session_start_info={
            "hparams": [
                {"key": "lr", "value": {"number_value": 0.1}},
                {"key": "steps", "value": {"number_value": 12_345_678.0}},
                {"key": "on", "value": {"bool_value": False}},
                {"key": "name", "value": {"string_value": "x"}},
            ]
        }
    )
    plugin = {"plugin_name": "hparams", "content": told.SerializeToString()}
    data = event(0, _hparams_={"metadata": {"plugin_data": plugin}})
    data += event(1, h={"histo": b"12"}, i={"image": b""}, loss=1.0)
    mine = {"metadata": {"plugin_data": {"plugin_name": "mine"}}}
    data += event(2, t={"tensor": {"dtype": 7}}, m={"tensor": {"dtype": 7}, **mine})
    reader = read_all(Found(written(tmp_path, data), "TensorBoard"))
    assert reader.facts.config == {
        "lr": "0.1",
        "steps": "12345678",
        "on": "false",
        "name": "x",
    }
    assert reader.facts.notes == tuple(
        f"1 {kind} is not drawn" for kind in ("histogram", "image", "tensor", "mine value")
    )


def test_two_writers_of_one_folder_and_one_that_goes_on_after_a_crash(tmp_path: Path) -> None:
    written(tmp_path, HEADER + b"".join(event(s, loss=float(s)) for s in range(10)))
    more = b"".join(event(s, loss=float(s) if s < 6 else 60.0) for s in range(5, 8))
    written(tmp_path, HEADER + more, OTHER)
    table = read_all(Found(tmp_path, "TensorBoard")).table
    assert numbers(table)["loss"][5:8] == [(5, "5.0"), (6, "60.0"), (7, "60.0")]
    assert table.facts.given_up_after == 7


def restart(step: int) -> bytes:
    """The program begins again at a step."""
    told = message("Event")(step=step, session_log={"status": 1})
    return frame(told.SerializeToString())


def test_a_restart_with_a_purge_step_drops_what_was_logged_from_there_on(tmp_path: Path) -> None:
    begun = b"".join(event(s, loss=float(s), acc=float(s)) for s in range(10))
    written(tmp_path, HEADER + restart(0) + begun)
    reader = read_all(Found(tmp_path, "TensorBoard"))
    assert numbers(reader.table)["acc"] == points(range(10))
    written(tmp_path, HEADER + restart(6), OTHER)
    while reader.poll():
        pass
    assert numbers(reader.table) == {"loss": points(range(6)), "acc": points(range(6))}
    assert (reader.table.facts.front, reader.table.facts.given_up_after) == (5, None)
    later = event(7, loss=7.0) + event(8, loss=-1.0) + restart(8) + event(9, loss=9.0)
    with (tmp_path / OTHER).open("ab") as file:
        file.write(later)
    while reader.poll():
        pass
    assert numbers(reader.table) == {"loss": points([*range(6), 7, 9]), "acc": points(range(6))}
    assert numbers(read_all(Found(tmp_path, "TensorBoard")).table) == numbers(reader.table)
    assert reader.table.series("time").steps.tolist() == [*range(6), 7, 9]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 400), max_size=4))
def test_a_growing_file_gives_what_a_whole_one_gives(tmp_path: Path, cuts: list[int]) -> None:
    data = HEADER + b"".join(event(s, loss=float(s)) for s in range(6))
    path = written(tmp_path, b"") / NAME
    reader = format_named("TensorBoard").open(Found(tmp_path, "TensorBoard"))
    with path.open("ab") as file:
        for end in [*sorted(cuts), len(data)]:
            file.write(data[file.tell() : end])
            file.flush()
            while reader.poll():
                pass
    assert numbers(reader.table)["loss"] == points(range(6))
    assert not reader.facts.problem


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_flipped_byte_loses_one_record_and_is_told(tmp_path: Path, at: int, flip: int) -> None:
    frames = [event(s, loss=float(s)) for s in range(6)]
    data = bytearray(b"".join(frames))
    at %= len(data)
    data[at] ^= flip
    folder = written(tmp_path, bytes(data))
    reader = read_all(Found(folder, "TensorBoard"))
    ends = np.cumsum([len(one) for one in frames])
    hit = int(np.searchsorted(ends, at, "right"))
    assert numbers(reader.table)["loss"] == points([s for s in range(6) if s != hit])
    # A length that became longer than the file could be a record that is not all there yet.
    assert reader.facts.problem or hit == 5


def test_damage_longer_than_a_slice_is_counted_once(tmp_path: Path) -> None:
    data = event(1, loss=1.0) + b"\xff" * 700_000 + event(2, loss=2.0) + b"\xff" * 20
    reader = read_all(Found(written(tmp_path, data + event(3, loss=3.0)), "TensorBoard"))
    assert numbers(reader.table)["loss"] == points([1, 2, 3])
    assert reader.facts.problem == f"{NAME}: 2 damaged records left out"


@given(data=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_junk_is_no_error(tmp_path: Path, data: bytes) -> None:
    assert loss_of(written(tmp_path, data)) == []


def test_a_replaced_file_starts_over(tmp_path: Path) -> None:
    folder = written(tmp_path, HEADER + event(1, loss=1.0))
    reader = read_all(Found(folder, "TensorBoard"))
    (folder / NAME).unlink()
    written(folder, HEADER + event(2, loss=2.0))
    while reader.poll():
        pass
    assert numbers(reader.table)["loss"] == points([2])


def test_a_link_to_nowhere_beside_them_hides_no_events(tmp_path: Path) -> None:
    path = written(tmp_path, event(1, loss=2.0))
    (tmp_path / f"{NAME}.old").symlink_to(tmp_path / "nowhere")
    found = Found(tmp_path, "TensorBoard")
    assert format_named("TensorBoard").written_at(found) == path.stat().st_mtime
    assert loss_of(tmp_path) == [(1, "2.0")]
