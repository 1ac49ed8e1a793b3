"""CSV of a run's metrics: the numbers of `MetricsTable`, in memory that does not grow."""

from __future__ import annotations

import csv
import gzip
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from shared.export.csv import Limits, export_csv
from shared.run.directory import RunDirectory
from shared.run.metrics_log import MetricsReader
from tests.waiting import SECONDS

Cells = dict[tuple[int, str], float]


def write(folder: Path, *lines: object) -> RunDirectory:
    run = RunDirectory(folder)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    run.metrics_path.write_text("".join(text + "\n" for text in texts))
    return run


ABOUT = ("time", "phase", "attempt")


def read(path: Path) -> tuple[list[str], Cells]:
    """The series named in the heading, and every value by step and series."""
    with path.open(newline="") as file:
        heading, *rows = csv.reader(file)
    assert heading[0] == "step"
    steps = [int(row[0]) for row in rows]
    assert steps == sorted(set(steps))
    cells = {
        (int(row[0]), key): float(text)
        for row in rows
        for key, text in zip(heading[1:], row[1:], strict=True)
        if text and key not in ABOUT
    }
    return [key for key in heading[1:] if key not in ABOUT], cells


def expected(run: RunDirectory) -> tuple[list[str], Cells]:
    reader = MetricsReader(run.metrics_path, quiet=0.0)
    reader.read_all()
    table = reader.read_all()  # nothing comes any more: a last line without a newline counts
    keys = table.keys()
    return keys, {
        (step, key): value
        for key in keys
        for step, value in zip(
            table.series(key).steps.tolist(), table.series(key).values.tolist(), strict=True
        )
    }


def same(one: Cells, other: Cells) -> bool:
    return one.keys() == other.keys() and all(
        a == other[k] or (math.isnan(a) and math.isnan(other[k])) for k, a in one.items()
    )


def test_a_table_of_every_step(tmp_path: Path) -> None:
    run = write(
        tmp_path,
        {"step": 1, "time": 5.0, "loss": 2.5, "phase": "full", "tokens_total": 4096},
        {"step": 2, "loss": None, "nonfinite": {"loss": "nan"}, "tokens_total": 8192},
        '{"step": 3, "loss": Infinity, "val_loss": -inf}',
        {"step": 4, "loss": 1e-7, "was_predicted": True, "odd, \x1b[31mname": 0.1},
    )
    file = export_csv(run, tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_text()
    assert text == (
        'step,loss,tokens_total,val_loss,"odd, [31mname",time,phase\n'
        "1,2.5,4096,,,5,full\n"
        "2,nan,8192,,,,\n"
        "3,inf,,-inf,,,\n"
        "4,1e-07,,,0.1,,\n"
    )
    assert (file.rows, file.bytes) == (4, len(text))


def test_the_last_attempt_wins_whatever_the_order(tmp_path: Path) -> None:
    run = write(
        tmp_path,
        {"step": 1, "loss": 1.0, "attempt": 1},
        {"step": 2, "loss": 2.0, "attempt": 3},
        {"step": 3, "loss": 3.0, "attempt": 1, "val_loss": 9},
        {"step": 2, "loss": 20.0, "attempt": 2},
        {"step": 3, "loss": 30.0, "attempt": 2},
        {"step": 3, "loss": 31.0, "attempt": 2},
        {"step": 5, "loss": 50.0, "attempt": 2},
    )
    export_csv(run, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == (
        "step,loss,val_loss,attempt\n1,1,,1\n2,2,,3\n3,31,9,2\n5,50,,2\n"
    )


def test_only_the_metrics_asked_for(tmp_path: Path) -> None:
    run = write(tmp_path, {"step": 1, "a": 1, "b": 2}, {"step": 2, "a": 3}, {"step": 3, "b": 4})
    file = export_csv(run, tmp_path / "out.csv", ["b"])
    assert (tmp_path / "out.csv").read_text() == "step,b\n1,2\n3,4\n"
    assert (file.rows, file.keys) == (2, ("b",))
    with pytest.raises(UserError, match=r"no metric 'bb' \(did you mean b\?\); it has a, b"):
        export_csv(run, tmp_path / "other.csv", ["bb"])
    assert not (tmp_path / "other.csv").exists()


@pytest.mark.parametrize("lines", [[], ["junk"], [{"step": 1}], ['{"step": 1, "loss": 2}x']])
def test_no_metrics_yet(tmp_path: Path, lines: list[object]) -> None:
    with pytest.raises(UserError, match="has no metrics yet"):
        export_csv(write(tmp_path, *lines), tmp_path / "out.csv")
    with pytest.raises(UserError, match=r"has no metrics yet: metrics\.jsonl does not exist"):
        export_csv(RunDirectory(tmp_path / "none"), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


VALUES = st.one_of(
    st.floats(width=32),
    st.integers(-(10**400), 10**400),
    st.none(),
    st.booleans(),
    st.sampled_from(["nan", "-inf", "text", [1], {"a": 1}]),
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "step": st.integers(-1, 40)
        | st.sampled_from([2.0, 2.5, "3", None, True, 1 << 53, 1 << 60]),
        "attempt": st.integers(0, 3),
        "loss": VALUES,
        "val_loss": VALUES,
        "time": st.floats(0, 9),
        "nonfinite": st.fixed_dictionaries({}, optional={"loss": st.sampled_from(["nan", "x"])}),
    },
)
LINES = st.lists(
    RECORDS.map(json.dumps) | st.sampled_from(["", "junk", '{"step": 3', "[]", "  "]), max_size=60
)


@settings(deadline=None)
@given(
    lines=LINES,
    end=st.sampled_from(["\n", "", '\n{"step": 7, "loss": 7}']),
    buffered=st.sampled_from([1, 3, 1000]),
    stretches=st.sampled_from([1, 4, 64]),
    read_size=st.sampled_from([1, 7, 64, 4096]),
)
def test_any_log_gives_what_the_table_holds(
    lines: list[str], end: str, buffered: int, stretches: int, read_size: int
) -> None:
    limits = Limits(stretches, buffered, 1, read_size, read_size)
    with tempfile.TemporaryDirectory() as place:
        run = RunDirectory(Path(place))
        run.metrics_path.write_text("\n".join(lines) + end)
        keys, cells = expected(run)
        if not keys:
            with pytest.raises(UserError):
                export_csv(run, Path(place) / "out.csv", limits=limits)
            return
        export_csv(run, Path(place) / "out.csv", limits=limits)
        shown, found = read(Path(place) / "out.csv")
    assert set(shown) == set(keys)
    assert same(found, cells)


def test_a_line_longer_than_any_record_is_junk(tmp_path: Path) -> None:
    run = write(tmp_path, {"step": 1, "a": 1}, "x" * 5000, {"step": 2, "a": 2}, {"step": 1, "a": 3})
    export_csv(run, tmp_path / "out.csv", limits=Limits(line=1000, read_size=100))
    assert (tmp_path / "out.csv").read_text() == "step,a\n1,3\n2,2\n"


def test_memory_does_not_grow_with_the_log(tmp_path: Path, spawn) -> None:
    """Twenty times the steps, resumed twice: a few MiB more at most."""

    def peak(steps: int) -> int:
        folder = tmp_path / str(steps)
        folder.mkdir()
        values = np.random.default_rng(0).random(steps)
        with RunDirectory(folder).metrics_path.open("w") as file:
            for attempt, first in enumerate((0, steps // 2, steps // 4)):
                for step in range(first, steps):
                    value = values[step]
                    file.write(
                        f'{{"step":{step},"loss":{value},"a":{value},"attempt":{attempt}}}\n'
                    )
        child = spawn(EXPORT, folder)
        assert child.wait(SECONDS) == 0
        return int(child.stdout.read())

    small, large = peak(5_000), peak(100_000)
    assert large - small < 25 << 10, f"{small} and {large} KiB"


EXPORT = """
import resource, sys
from pathlib import Path
from shared.export.csv import export_csv
from shared.run.directory import RunDirectory
export_csv(RunDirectory(Path(sys.argv[1])), Path(sys.argv[1]) / "out.csv")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(b'{"global_step": 1, "train": {"loss": 2}}\n{"global_step": 2, "a": 3}\n'),
        b'[{"global_step": 1, "train": {"loss": "2.0"}}, {"global_step": 2, "a": 3}]',
        b'{"global_step": 1, "train": {"loss": 2}}\r{"global_step": 2.5, "a": 3}',
    ],
    ids=["gzip", "array", "CR"],
)
def test_the_log_of_another_program(tmp_path: Path, data: bytes) -> None:
    run = RunDirectory(tmp_path)
    run.metrics_path.write_bytes(data)
    export_csv(run, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "step,train.loss,a\n1,2,\n2,,3\n"
