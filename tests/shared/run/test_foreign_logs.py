"""Metrics logs of other programs: other keys, encodings and layouts of the same records."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.run.metrics_log import MetricsReader

Points = dict[str, list[tuple[int, float]]]


def points(reader: MetricsReader) -> Points:
    table = reader.table
    found = {key: table.series(key) for key in table.keys()}  # noqa: SIM118  not a dict
    return {
        key: list(zip(one.steps.tolist(), one.values.tolist(), strict=True))
        for key, one in found.items()
    }


def read(data: bytes, quiet: float = 0.0) -> MetricsReader:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        path.write_bytes(data)
        reader = MetricsReader(path, quiet=quiet)
        reader.read_all()
        reader.read_all()  # the second one finds that nothing comes any more
        return reader


def lines(records: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


RECORDS: list[dict[str, Any]] = [{"step": i, "loss": 2 - i / 10} for i in range(8)]
CURVE = [(i, 2 - i / 10) for i in range(8)]
TEXT = lines(RECORDS)

ENCODED = {
    "CR": TEXT.replace(b"\n", b"\r"),
    "CRLF": TEXT.replace(b"\n", b"\r\n"),
    "BOM": b"\xef\xbb\xbf" + TEXT,
    "UTF-16": TEXT.decode().encode("utf-16"),
    "UTF-16 without BOM": TEXT.decode().encode("utf-16-be"),
    "UTF-32": TEXT.decode().encode("utf-32"),
    "gzip": gzip.compress(TEXT),
    "two gzip members": gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]),
    "gzip of UTF-16": gzip.compress(TEXT.decode().encode("utf-16")),
    "array": json.dumps(RECORDS).encode(),
    "indented array": json.dumps(RECORDS, indent=1).encode(),
    "indented objects": b"\n".join(json.dumps(r, indent=4).encode() for r in RECORDS),
    "indented CRLF array": json.dumps(RECORDS, indent=2).replace("\n", "\r\n").encode(),
    "no final newline": TEXT[:-1],
    "long lines": lines([{**r, "note": 'x"{\\' * 10_000} for r in RECORDS]),
}


@pytest.mark.parametrize("data", ENCODED.values(), ids=ENCODED.keys())
def test_the_same_records_in_any_form_give_the_same_curve(data: bytes) -> None:
    reader = read(data)
    assert points(reader) == {"loss": CURVE}
    assert reader.table.bad_lines == 0


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("step", {"epoch": 0.5, "iteration": 3}),
        ("global_step", {"epoch": 1}),
        ("_step", {}),
        ("iteration", {}),
        ("current_steps", {"total_steps": 100}),
        ("stage2_step", {"stage2_probe": {"step": 7}}),
        ("Step", {}),
        ("trainer/global_step", {}),
    ],
)
def test_the_step_is_found_under_its_usual_names(key: str, more: dict[str, Any]) -> None:
    reader = read(lines([{**more, key: i, "loss": 2 - i / 10} for i in range(8)]))
    assert points(reader)["loss"] == CURVE
    assert reader.table.facts.step_keys == ([] if key == "step" else [key])
    assert key not in points(reader)


def test_an_epoch_counts_where_nothing_better_does() -> None:
    by_epoch = [{"epoch": i, "loss": 2 - i / 10} for i in range(8)]
    assert points(read(lines(by_epoch)))["loss"] == CURVE
    mixed = [*by_epoch, {"epoch": 9, "step": 900, "loss": 1.0}]
    reader = read(lines(mixed))
    assert points(reader)["loss"] == [(900, 1.0)]
    assert reader.table.facts.reasons == {"have no step key like the others": 8}


def test_nested_objects_are_flattened_and_text_is_a_number_where_it_spells_one() -> None:
    reader = read(
        lines(
            [
                {"config": {"steps": 6000}},
                {"step": "3", "train": {"loss": "2.5", "acc": {"top1": 0.5}}, "note": "x1"},
                {"step": 4.5, "train": {"loss": 2}, "time": "2026-01-22T18:11:02Z"},
            ]
        )
    )
    assert points(reader) == {"train.loss": [(3, 2.5), (4, 2)], "train.acc.top1": [(3, 0.5)]}
    assert reader.table.series("time").values.tolist() == [1769105462.0]
    assert reader.table.facts.rounded == 1
    assert reader.table.facts.reasons == {"have no step key": 1}


@pytest.mark.parametrize(
    ("data", "reason", "key"),
    [
        (
            lines([{"step": -1 - i, "loss": 1.0} for i in range(9)]),
            "9 have a negative step",
            "loss",
        ),
        (lines([{"reward": 1.0} for _ in range(9)]), "9 have no step key", "reward"),
        (lines([{"step": "one", "loss": 1.0}]), "1 has a step that is not a number", "step"),
        (b"epoch 1 loss 2\n" * 3, "3 are not JSON objects", ""),
    ],
)
def test_what_cannot_be_shown_is_told(data: bytes, reason: str, key: str) -> None:
    reader = read(data)
    assert points(reader) == {}
    assert reason in reader.table.facts.told()
    assert key in reader.table.facts.told()


@pytest.mark.parametrize("magic", [b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh9", b"PK\x03\x04"])
def test_other_compression_is_named(magic: bytes) -> None:
    assert "compressed with" in read(magic + bytes(range(256))).form.problem


def test_damaged_gzip_shows_what_came_before() -> None:
    packed = bytearray(gzip.compress(lines([{"step": i, "loss": i * 0.7} for i in range(5000)])))
    packed[-3000:-2900] = bytes(100)
    reader = read(bytes(packed))
    assert "damaged" in reader.form.problem
    assert reader.table.records > 0


def test_the_last_line_counts_once_the_writer_is_quiet_and_not_before(tmp_path: Path) -> None:
    now = [0.0]
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(TEXT[:-1])
    reader = MetricsReader(path, quiet=2.0, clock=lambda: now[0])
    now[0] = path.stat().st_mtime
    reader.read_all()
    assert reader.table.records == 7
    now[0] += 3.0
    reader.read_all()
    assert points(reader) == {"loss": CURVE}
    with path.open("ab") as file:
        file.write(b'\n{"step": 8, "loss": 1.0}\n')
    reader.read_all()
    assert points(reader) == {"loss": [*CURVE, (8, 1.0)]}


def test_a_last_line_that_goes_on_after_all_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(TEXT[:-1])
    reader = MetricsReader(path, quiet=0.0)
    reader.read_all()
    reader.read_all()
    assert reader.table.records == 8
    with path.open("ab") as file:
        file.write(b' and junk\n{"step": 8, "loss": 1.0}\n')
    reader.read_all()
    assert points(reader) == {"loss": [*CURVE[:7], (8, 1.0)]}


keys = st.sampled_from(["step", "global_step", "stage_step", "epoch", "loss", "train", "time", "a"])
values = st.recursive(
    st.one_of(
        st.integers(-3, 12),
        st.floats(width=32),
        st.sampled_from(["3", "1.5", "x", "", "2026-01-22T18:11:02Z", None, True, 1e308, -1e308]),
    ),
    lambda inner: st.one_of(st.dictionaries(keys, inner, max_size=3), st.lists(inner, max_size=2)),
    max_leaves=4,
)
records = st.lists(st.dictionaries(keys, values, max_size=5), max_size=12)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    some = draw(records)
    kind = draw(st.sampled_from(["lines", "array", "indented", "bytes"]))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    if kind == "lines":
        text = "\n".join(json.dumps(r) for r in some) + draw(st.sampled_from(["", "\n", '{"s']))
    else:
        text = json.dumps(some, indent=2 if kind == "indented" else None)
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n", "\r"])))
    data = text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])))
    return gzip.compress(data) if draw(st.booleans()) else data


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(files(), st.lists(st.integers(0, 2000), max_size=4), st.integers(1, 50))
@example(b'{"step": 1}', [4, 5], 1)
@example(b'{"step": 1, "loss": 2}{"step": 2}\n', [22], 50)
def test_a_growing_file_gives_the_table_of_the_whole_one(
    data: bytes, cuts: list[int], most: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        reader = MetricsReader(path, quiet=0.0)
        with path.open("wb", buffering=0) as file:
            done = 0
            for cut in [*sorted(c % (len(data) + 1) for c in cuts), len(data)]:
                file.write(data[done:cut])
                done = max(done, cut)
                for _ in range(3):
                    while reader.poll(most):
                        pass
        whole = read(data)
        assert repr(sorted(points(reader).items())) == repr(sorted(points(whole).items()))
        assert repr(reader.table.facts) == repr(whole.table.facts)
