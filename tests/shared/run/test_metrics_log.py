"""`metrics.jsonl` as series, against a reference parser that knows nothing of the real one."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.files import AppendLog
from shared.run.foreign import MAX_STEP
from shared.run.metrics_log import MetricsReader, MetricsTable
from shared.run.record_lines import parse_line, read_records

# -- the reference: slow, plain, only the standard library ---------------------------------------

NOT_SERIES = {"step", "time", "attempt", "phase", "was_predicted", "nonfinite"}
Reference = dict[str, dict[int, float]]


def reference_record(line: bytes) -> dict[str, Any] | None:
    """The line's JSON object, bare NaN and infinities spelled as Python's json wants them."""
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    out, i = [], 0
    while i < len(text):
        if text[i] == '"':
            end = i + 1
            while end < len(text) and text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            out.append(text[i : end + 1])
            i = end + 1
        elif word := re.match(r"[+-]?[A-Za-z_]+", text[i:]):
            out.append(reference_word(word[0]))
            i += len(word[0])
        else:
            out.append(text[i])
            i += 1
    try:
        value = json.loads("".join(out), parse_int=lambda s: int(s) if len(s) < 30 else float(s))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def reference_word(word: str) -> str:
    bare = word.lower().lstrip("+-")
    if bare == "nan":
        return "NaN"
    if bare in ("inf", "infinity"):
        return "-Infinity" if word.startswith("-") else "Infinity"
    return word


def reference_value(raw: Any, named: Any) -> float | None:
    if isinstance(raw, bool):
        return None
    if isinstance(raw, (int, float)):
        return float(raw)
    text = named if raw is None else raw
    if isinstance(text, str) and re.fullmatch(r"[+-]?(nan|inf|infinity)", text, re.IGNORECASE):
        return float(text)
    return reference_spelled(raw) if isinstance(raw, str) else None


def reference_spelled(text: str) -> float | None:
    plain = re.fullmatch(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", text)
    return float(text) if plain else None


def reference_step(raw: Any) -> int | None:
    if isinstance(raw, str):
        raw = reference_spelled(raw)
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not math.isfinite(raw):
        return None
    return math.floor(raw) if 0 <= raw <= MAX_STEP else None


def reference_flat(record: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict) and key != "nonfinite":
            for inner, leaf in reference_flat(value).items():
                flat.setdefault(f"{key}.{inner}", leaf)
        else:
            flat.setdefault(key, value)
    return flat


def reference_count(raw: Any) -> int | None:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not math.isfinite(raw):
        return None
    return int(raw) if raw == int(raw) and 0 <= raw <= MAX_STEP else None


def reference_series(data: bytes) -> Reference:
    best: dict[str, dict[int, tuple[int, float]]] = {}
    for line in re.split(rb"\r\n|\r|\n", data)[:-1]:
        record = reference_record(line)
        record = reference_flat(record) if record else None
        step = reference_step(record.get("step")) if record else None
        if record is None or step is None:
            continue
        attempt = min(reference_count(record.get("attempt")) or 0, 2**31 - 1)
        named = record.get("nonfinite")
        for key, raw in record.items():
            value = reference_value(raw, named.get(key) if isinstance(named, dict) else None)
            if key in NOT_SERIES or value is None:
                continue
            points = best.setdefault(key, {})
            if step not in points or attempt >= points[step][0]:
                points[step] = (attempt, value)
    return {k: {s: v for s, (_, v) in sorted(points.items())} for k, points in best.items()}


def as_reference(table: MetricsTable) -> Reference:
    found = {}
    for key in table.keys():  # noqa: SIM118  not a dict
        series = table.series(key)
        assert np.all(np.diff(series.steps) > 0)
        assert len(series) == len(series.values)
        found[key] = dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))
    return {key: points for key, points in found.items() if points}


def same(a: Reference, b: Reference) -> bool:
    """Equality where NaN equals NaN."""
    return repr(sorted(a.items())) == repr(sorted(b.items()))


# -- files with everything in them ---------------------------------------------------------------

SPELLINGS = ["NaN", "nan", "NAN", "-nan", "+NaN", "inf", "-inf", "Infinity", "-Infinity", "+INF"]
numbers = st.one_of(
    st.integers(-5, 5),
    st.integers(-(10**400), 10**400).filter(lambda n: len(str(n)) not in range(300, 312)),
    st.floats(allow_nan=False, allow_infinity=False),
).map(json.dumps)
values = st.one_of(
    numbers,
    numbers,
    st.sampled_from(SPELLINGS),
    st.sampled_from(SPELLINGS).map(json.dumps),
    st.sampled_from(["null", "true", "false", "[1,2]", '{"a":NaN}', '"a \\" nan"', '"\\ud800"']),
    st.text(max_size=5).map(json.dumps),
    st.text(max_size=5).map(lambda s: json.dumps(s, ensure_ascii=False)),
)
steps = st.one_of(
    st.integers(0, 12).map(str),
    st.integers(0, 12).map(str),
    st.sampled_from(["3.0", "2e0", "-1", "1.5", "true", "null", '"4"', "NaN", "1e300", "9" * 30]),
)
attempts = st.sampled_from(["0", "1", "2", "3", "2.0", "null", "-1", '"2"', "4294967296", "1e30"])
nonfinite = st.sampled_from(['{"loss":"nan"}', '{"loss":"-inf","x":3}', "[]", '"nan"', "{}"])


@st.composite
def record_lines(draw: st.DrawFn) -> bytes:
    fields = [("step", draw(steps))]
    if draw(st.booleans()):
        fields.append(("attempt", draw(attempts)))
    if draw(st.integers(0, 3)) == 0:
        fields.append(("nonfinite", draw(nonfinite)))
    keys = draw(st.lists(st.sampled_from(["loss", "val_loss", "x", "phase", "é"]), max_size=4))
    fields += [(key, draw(values)) for key in keys]
    body = ",".join(f"{json.dumps(key)}: {value}" for key, value in draw(st.permutations(fields)))
    return ("{" + body + "}").encode("utf-8", "surrogatepass")


def plain_line(step: int, loss: float = 1.0, **more: object) -> bytes:
    return json.dumps({"step": step, "loss": loss, **more}).encode()


junk = st.one_of(
    st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")),
    record_lines().flatmap(lambda line: st.integers(0, len(line)).map(lambda n: line[:n])),
    record_lines().map(lambda line: line + line),
    st.sampled_from([b"", b" ", b"[1]", b"{}", b"\0" * 9, b"\xff\xfe", b"NaN", b"{" * 50, b"\r"]),
    record_lines().map(lambda line: b"\0\0" + line),
    record_lines().map(lambda line: b"\xef\xbb\xbf" + line + b"\r"),
)
ordinary = st.integers(0, 40).map(lambda s: plain_line(s, s / 7))
files = st.lists(st.one_of(record_lines(), ordinary, junk), max_size=25).map(b"\n".join)


def follow(data: bytes, cuts: list[int], max_bytes: int) -> MetricsReader:
    """Read a file that grows from cut to cut, checking the series at each."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        reader = MetricsReader(path)
        with path.open("wb", buffering=0) as file:
            done = 0
            for cut in [*sorted(c % (len(data) + 1) for c in cuts), len(data)]:
                file.write(data[done:cut])
                done = max(done, cut)
                while reader.poll(max_bytes):
                    pass
                # The reference knows JSON lines; other forms are in test_foreign_logs.
                if not (reader.form.name or reader.form.problem):
                    assert same(as_reference(reader.table), reference_series(data[:done]))
        return reader


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(files, st.lists(st.integers(0, 2000), max_size=4), st.integers(1, 80))
@example(b'{"step":1,"loss":nan}\n{"step":1,"loss":2,"attempt":1}\n', [3, 30], 1)
@example(b'{"step":1,"loss":null,"nonfinite":{"loss":"nan"}}\n' * 2, [], 80)
@example(b'{"step":1,"loss":1e400}\n{"step":2,"loss":' + b"9" * 5000 + b"}\n", [], 7)
def test_any_file_in_any_pieces_gives_the_series_of_the_reference(
    data: bytes, cuts: list[int], max_bytes: int
) -> None:
    follow(data, cuts, max_bytes)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(files)
def test_every_line_is_counted_as_record_or_bad_whatever_the_batches(data: bytes) -> None:
    whole, single = MetricsTable(), MetricsTable()
    block = data + b"\n"
    whole.add_lines(block)
    for line in block.split(b"\n")[:-1]:
        single.add_lines(line + b"\n")
    assert same(as_reference(whole), as_reference(single))
    assert (whole.records, whole.bad_lines) == (single.records, single.bad_lines)
    said_something = [x for x in block.split(b"\n") if x.strip()]
    assert whole.records + whole.bad_lines == len(said_something)


def test_values_in_the_order_of_steps_highest_attempt_first_then_last_written() -> None:
    table = MetricsTable()
    table.add_lines(
        b'{"step":1,"loss":9,"attempt":1}\n{"step":2,"loss":8,"attempt":1}\n'
        b'{"step":3,"loss":7,"attempt":1}\n{"step":2,"loss":5,"attempt":2}\n'
        b'{"step":1,"loss":4,"attempt":1}\n{"step":2,"loss":0,"attempt":1}\n'
    )
    series = table.series("loss")
    assert series.steps.tolist() == [1, 2, 3]
    assert series.values.tolist() == [4, 5, 7]


def test_a_series_once_handed_out_does_not_change() -> None:
    table = MetricsTable()
    table.add_lines(b"".join(plain_line(s, s) + b"\n" for s in range(100)))
    before = table.series("loss")
    kept = before.values.copy()
    table.add_lines(b"".join(plain_line(s, -1.0, attempt=2) + b"\n" for s in range(50, 200)))
    after = table.series("loss")
    assert before.values.tolist() == kept.tolist()
    assert len(after) == 200
    assert after.values[50] == -1


def test_keys_come_and_go() -> None:
    table = MetricsTable()
    table.add_lines(
        b'{"step":1,"loss":1}\n{"step":2,"loss":1,"val_loss":3}\n{"step":3,"mfu":0.5}\n'
        b'{"step":4,"loss":null}\n{"step":5,"loss":true,"note":"x","deep":{"a":[1]}}\n'
    )
    assert table.keys() == ["loss", "val_loss", "mfu"]
    assert table.series("loss").steps.tolist() == [1, 2]
    assert table.series("val_loss").steps.tolist() == [2]
    assert len(table.series("absent")) == 0
    assert table.last_record["note"] == "x"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_bare_nonfinite_number_is_seen_in_any_spelling(spelling: str) -> None:
    record = parse_line(b'{"step": 1, "loss": %s, "text": "nan \\" inf"}' % spelling.encode())
    assert record is not None
    assert repr(record["loss"]) == repr(float(spelling)).replace("-nan", "nan")
    assert record["text"] == 'nan " inf'


@pytest.mark.parametrize(
    "line",
    [
        b'{"step": 2, "pad": "' + b"x" * 10_000_000 + b'", "loss": NaN}',
        b'{"step": 2, "loss": NaN, "pad": "' + b'\\"' * 5_000_000,
        b'{"step": 2, "loss": NaN, "pad": ' + b"nan," * 300_000,
        b'{"step": 2, "loss": ' + b"[" * 3_000_000,
        b'{"step": 2, "loss": ' + b"9" * 3_000_000 + b"}",
        b"\0" * 10_000_000,
    ],
    ids=["long", "open quote", "nans", "deep", "digits", "NULs"],
)
def test_a_huge_line_costs_one_pass_and_hurts_nobody(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(plain_line(1) + b"\n" + line + b"\n" + plain_line(3) + b"\n")
    reader = MetricsReader(path)
    while reader.poll():
        pass
    assert {1, 3} <= set(reader.table.series("loss").steps.tolist())


def test_ever_new_keys_do_not_fill_memory() -> None:
    table = MetricsTable(max_series=10)
    table.add_lines(b"".join(b'{"step":%d,"key%d":1,"loss":2}\n' % (i, i) for i in range(50)))
    assert len(table.keys()) == 10
    assert len(table.series("loss")) == 50


# -- files that change under the reader ----------------------------------------------------------

OLD = b"".join(plain_line(s, 1.0, same="start" * 20) + b"\n" for s in range(1, 60))
LONGER = b"".join(plain_line(s, 2.0, same="start" * 20) + b"\n" for s in range(1, 90))
SHORTER = LONGER[: len(LONGER) // 3]
SIMILAR = OLD[:1000] + LONGER[1000:]  # the same beginning, more than is fingerprinted
EQUAL = OLD.replace(b"1.0", b"3.0")


@pytest.mark.parametrize(
    "new",
    [LONGER, SHORTER, SIMILAR, EQUAL, b"", plain_line(7) + b"\n"],
    ids=["longer", "shorter", "similar", "equal size", "empty", "one line"],
)
@pytest.mark.parametrize("how", ["replaced", "rewritten", "rotated", "recreated"])
@pytest.mark.parametrize("torn", [0, 9])
def test_a_changed_file_gives_the_table_of_the_new_content(
    tmp_path: Path, new: bytes, how: str, torn: int
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(OLD[: len(OLD) - torn])
    reader = MetricsReader(path)
    reader.read_all()
    assert same(as_reference(reader.table), reference_series(OLD[: len(OLD) - torn]))
    if how == "replaced":
        other = tmp_path / "other"
        other.write_bytes(new)
        other.replace(path)
    elif how == "rewritten":
        path.write_bytes(new)  # truncates in place
    elif how == "rotated":
        path.rename(tmp_path / "metrics.jsonl.1")
        reader.poll()
        path.write_bytes(new)
    else:
        path.unlink()
        reader.poll()
        path.write_bytes(new)  # as likely as not the same inode again
    reader.read_all()
    assert same(as_reference(reader.table), reference_series(new))
    with path.open("ab") as file:
        file.write(plain_line(1000) + b"\n")
    assert same(as_reference(reader.read_all()), reference_series(new + plain_line(1000) + b"\n"))


def test_a_missing_file_is_an_empty_table_until_it_comes(tmp_path: Path) -> None:
    reader = MetricsReader(tmp_path / "metrics.jsonl")
    assert reader.read_all().keys() == []
    (tmp_path / "metrics.jsonl").write_bytes(OLD)
    assert len(reader.read_all().series("loss")) == 59
    assert reader.offset == len(OLD)


def test_no_record_is_lost_or_merged_when_a_torn_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = plain_line(1) + b"\n"
    last = plain_line(2, float("nan"))
    for cut in range(len(last) + 1):
        path.write_bytes(whole + last[:cut])
        log = AppendLog(path)
        assert log.append(plain_line(3))
        log.close()
        found = MetricsReader(path).read_all().series("loss").steps.tolist()
        assert found == ([1, 2, 3] if cut == len(last) else [1, 3])


def test_the_newest_records_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event":"a"}\njunk\n[1]\n{"event":"b"}\n\xff\n{"event":"c"}\n{"event":"to')
    assert [r["event"] for r in read_records(path)] == ["a", "b", "c"]
    assert [r["event"] for r in read_records(path, limit=2)] == ["b", "c"]
    assert list(read_records(path, limit=0)) == []
    assert list(read_records(tmp_path / "absent")) == []
    os.mkfifo(tmp_path / "pipe")
    assert list(read_records(tmp_path / "pipe")) == []
