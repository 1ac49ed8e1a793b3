"""Logs that are one file: CSV, JSON Lines, the Trainer's state."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.foreign.csv_table import CsvTable
from shared.foreign.guarded import open_reader
from shared.foreign.interface import Claim, Folder, Found
from shared.foreign.registry import format_named
from shared.foreign.walking import Walk, runs_of_file
from tests.shared.foreign.making import numbers, only_run, read_all

CSV = "epoch,step,train_loss,val_loss\n0,1,3.0,\n0,2,2.5,\n0,2,,2.75\n1,3,nan,\n"
EXPECTED = {
    "epoch": [(1, "0.0"), (2, "0.0"), (3, "1.0")],
    "train_loss": [(1, "3.0"), (2, "2.5"), (3, "nan")],
    "val_loss": [(2, "2.75")],
}
LINES = '{"global_step": 1, "train": {"loss": 3.0}}\n{"global_step": 2, "train": {"loss": NaN}}\n'


def state(steps: int = 3, most: int = 5) -> str:
    history = [{"loss": 1.0 / s, "epoch": s / 2, "step": s} for s in range(1, steps + 1)]
    return json.dumps(
        {"global_step": steps, "log_history": history, "max_steps": most, "trial_name": None}
    )


def written(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# -- CSV -----------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_read(tmp_path: Path, separator: str) -> None:
    path = written(tmp_path / "log.csv", CSV.replace(",", separator))
    assert numbers(read_all(only_run(path)).table) == EXPECTED


def test_lightnings_folder_is_one_run_with_its_settings(tmp_path: Path) -> None:
    folder = tmp_path / "lightning_logs" / "version_3"
    written(folder / "metrics.csv", CSV)
    written(folder / "hparams.yaml", "lr: 0.1\nmodel:\n  width: 8\n")
    [found] = Walk(tmp_path).find()
    assert (found.path, found.name) == (folder, "lightning_logs/version_3")
    assert read_all(found).facts.config == {"lr": "0.1", "model.width": "8"}


def test_a_header_that_grows_starts_the_table_over(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", "step,loss\n1,3.0\n2,2.0\n")
    reader = format_named("CSV").open(only_run(path))
    while reader.poll():
        pass
    written(path, "step,loss,acc\n1,3.0,\n2,2.0,\n3,1.0,0.5\n")
    while reader.poll():
        pass
    assert numbers(reader.table) == {
        "loss": [(1, "3.0"), (2, "2.0"), (3, "1.0")],
        "acc": [(3, "0.5")],
    }


@pytest.mark.parametrize(
    "text",
    ["", "step\n1\n", "name,age\nx,3\n", "step,name\n1,x\n", "\x00\x01\x02", "a,b\n1,2\n"],
)
def test_somebodys_data_is_no_log(tmp_path: Path, text: str) -> None:
    assert runs_of_file(written(tmp_path / "data.csv", text)) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CSV)), max_size=4))
def test_a_table_that_grows_gives_what_it_gives_at_once(tmp_path: Path, cuts: list[int]) -> None:
    path = tmp_path / "grown.csv"
    path.unlink(missing_ok=True)
    path.touch()
    reader = format_named("CSV").open(Found(path, "CSV"))
    for end in [*sorted(cuts), len(CSV)]:
        with path.open("r+") as file:
            file.seek(0, os.SEEK_END)
            file.write(CSV[file.tell() : end])
        while reader.poll():
            pass
    assert numbers(reader.table) == EXPECTED


cells = st.text(st.sampled_from('ab,;"\n\r\t \0é1.'), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(cells, min_size=1, max_size=4), max_size=5),
    junk=st.binary(max_size=30),
    at=st.integers(0, 60),
)
def test_any_table_is_read_without_an_error(
    tmp_path: Path, rows: list[list[str]], junk: bytes, at: int
) -> None:
    path = tmp_path / "any.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["step", "x"], *rows])
    data = path.read_bytes()
    path.write_bytes(data[:at] + junk + data[at:])
    runs_of_file(path)
    read_all(Found(path, "CSV"))


# -- JSON Lines ----------------------------------------------------------------------------


def test_lines_are_read_with_their_step_under_any_name(tmp_path: Path) -> None:
    found = only_run(written(tmp_path / "mine.jsonl", LINES))
    assert found.format == "JSON Lines"
    assert numbers(read_all(found).table) == {"train.loss": [(1, "3.0"), (2, "nan")]}


@pytest.mark.parametrize("text", ["", '{"text": "x"}\n', '{"step": 1, "text": "x"}\n', "[1]\n"])
def test_lines_of_something_else_are_no_log(tmp_path: Path, text: str) -> None:
    assert runs_of_file(written(tmp_path / "data.jsonl", text)) == []


# -- the Trainer's state -------------------------------------------------------------------


def test_the_newest_state_of_an_output_folder_is_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    written(folder / "checkpoint-2" / "trainer_state.json", state(2))
    newest = written(folder / "checkpoint-3" / "trainer_state.json", state(3))
    os.utime(newest, (2e9, 2e9))
    [found] = Walk(tmp_path).find()
    assert (found.path, found.format) == (folder, "Hugging Face")
    reader = read_all(found)
    assert [step for step, _ in numbers(reader.table)["loss"]] == [1, 2, 3]
    assert (reader.facts.live, reader.facts.status) == (False, "")
    last = written(folder / "trainer_state.json", state(5))
    os.utime(last, (3e9, 3e9))
    reader.poll()
    assert [step for step, _ in numbers(reader.table)["loss"]] == [1, 2, 3, 4, 5]
    assert reader.facts.status == "completed"


def test_a_state_may_hold_bare_nan(tmp_path: Path) -> None:
    path = written(tmp_path / "trainer_state.json", state().replace("0.5", "NaN"))
    reader = read_all(Found(path, "Hugging Face"))
    assert numbers(reader.table)["loss"][1] == (2, "nan")
    assert not reader.facts.problem


def test_a_state_of_ours_is_not_the_trainers(tmp_path: Path) -> None:
    written(tmp_path / "step_5" / "trainer_state.json", '{"step": 5}')
    assert Walk(tmp_path).find() == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(state())), junk=st.binary(max_size=20))
def test_a_damaged_state_is_named_and_the_old_one_stays(
    tmp_path: Path, at: int, junk: bytes
) -> None:
    path = written(tmp_path / "trainer_state.json", state())
    os.utime(path, (1e9, 1e9))
    reader = read_all(Found(path, "Hugging Face"))
    before = numbers(reader.table)
    data = state().encode()
    written(path, data[:at] + junk)
    reader.poll()
    try:
        whole = isinstance(json.loads(data[:at] + junk), dict)
    except ValueError:
        whole = False
    if not whole:
        assert reader.facts.problem
        assert numbers(reader.table) == before


# -- looking through folders ---------------------------------------------------------------


def test_runs_are_found_below_and_new_ones_later(tmp_path: Path) -> None:
    written(tmp_path / "a" / "b" / "x.jsonl", LINES)
    written(tmp_path / "ours" / "metrics.jsonl", LINES)
    written(tmp_path / "node_modules" / "y.jsonl", LINES)
    written(tmp_path / ".hidden" / "z.jsonl", LINES)
    walk = Walk(tmp_path)
    assert [found.path.name for found in walk.find()] == ["x.jsonl"]
    written(tmp_path / "a" / "later.csv", CSV)
    assert {found.path.name for found in walk.find()} == {"x.jsonl", "later.csv"}


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    written(tmp_path / "x.jsonl", LINES)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    walk = Walk(tmp_path)
    walk.find()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert len(walk.find()) == 1


def test_what_cannot_be_read_hides_no_other_run(tmp_path: Path) -> None:
    written(tmp_path / "x.jsonl", LINES)
    written(tmp_path / "x.csv", CSV)
    for name in ("a.csv", "a.jsonl", "a.db", "a.sqlite", "a.wandb"):
        os.mkfifo(tmp_path / name)  # reading it would wait for ever
    for name in ("b.csv", "b.jsonl", "b.db"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    found = {one.path.name for one in Walk(tmp_path).find() if one.format != "W&B"}
    assert found == {"x.jsonl", "x.csv"}


@pytest.mark.parametrize(
    ("name", "first", "then"),
    [
        ("x.jsonl", "", LINES),
        ("x.jsonl", '{"config": {"lr": 1}}\n', LINES),
        ("x.csv", "", CSV),
        ("x.csv", CSV[:31], CSV),
    ],
)
def test_a_log_is_found_once_it_has_records(
    tmp_path: Path, name: str, first: str, then: str
) -> None:
    path = written(tmp_path / name, first)
    walk = Walk(tmp_path)
    assert not walk.find()
    path.write_text(then)  # which leaves the folder's time as it is
    assert len(walk.find()) == 1


def test_a_state_is_found_though_its_checkpoint_was_seen_before_it(tmp_path: Path) -> None:
    (tmp_path / "out" / "checkpoint-1").mkdir(parents=True)
    walk = Walk(tmp_path)
    assert not walk.find()
    written(tmp_path / "out" / "checkpoint-1" / "trainer_state.json", state())
    assert [found.path.name for found in walk.find()] == ["out"]


def test_a_device_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "run.wandb"
    path.symlink_to("/dev/zero")
    reader = open_reader(Found(path, "W&B"))
    assert not reader.poll()


def test_an_error_in_a_reader_is_a_problem_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "x.jsonl", LINES)
    reader = open_reader(Found(path, "JSON Lines"))

    def fail(self: object, size: int) -> bool:
        raise KeyError("\x1b[2Jboo")

    monkeypatch.setattr("shared.foreign.json_lines.MetricsReader.poll", fail)
    assert not reader.poll()
    assert reader.facts.problem.startswith("it cannot be read")
    assert "\x1b" not in reader.facts.problem


def test_a_folder_that_a_reader_fails_on_is_named_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object, folder: Folder) -> Claim:
        raise ValueError("odd")

    (tmp_path / "mine.jsonl").write_text('{"iteration": 1, "loss": 2}\n' * 3)
    monkeypatch.setattr(CsvTable, "find", fail)
    walk = Walk(tmp_path)
    for _ in range(2):
        assert [run.path.name for run in walk.find()] == ["mine.jsonl"]
        assert walk.notice == f"{tmp_path} cannot be read as CSV: odd."
    monkeypatch.undo()
    walk.find(fresh=True)
    assert walk.notice == ""
