"""trackio's and MLflow's databases, with the tables that their versions have had."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.foreign.interface import Found
from shared.foreign.registry import format_named
from shared.foreign.walking import Walk, runs_of_file
from tests.shared.foreign.making import numbers, read_all

_ID = "id INTEGER PRIMARY KEY AUTOINCREMENT, "
TRACKIO = {
    "first": (
        "timestamp DATETIME DEFAULT CURRENT_TIMESTAMP, project_name TEXT, run_name TEXT",
        "project_name, run_name",
        ("p", "mine"),
    ),
    "with steps": ("timestamp TEXT, run_name TEXT, step INTEGER", "run_name", ("mine",)),
    "with ids": (
        "run_id TEXT, timestamp TEXT, run_name TEXT, step INTEGER, log_id TEXT",
        "run_id, run_name",
        ("abc", "mine"),
    ),
}
TIME = "2026-01-01T00:00:0{}+00:00"
START = 1_767_225_600.0  # the same in Unix seconds


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def _stored(value: dict[str, object], schema: str) -> str | bytes:
    """Versions with ids store the bytes of their JSON."""
    text = json.dumps(value)
    return text.encode() if "run_id" in TRACKIO[schema][0] else text


def trackio(path: Path, schema: str, rows: dict[int, dict[str, object]]) -> Path:
    fields, own, values = TRACKIO[schema]
    marks = ", ".join("?" * len(values))
    with database(path) as db:
        db.execute(f"CREATE TABLE IF NOT EXISTS metrics ({_ID}{fields}, metrics TEXT)")
        db.execute(f"CREATE TABLE IF NOT EXISTS configs ({_ID}{fields}, config TEXT)")
        settings_ = {"lr": 0.1, "model": {"width": 8}, "_Created": TIME.format(0)}
        config = _stored(settings_, schema)
        db.execute(f"INSERT INTO configs ({own}, config) VALUES ({marks}, ?)", (*values, config))
        for step, metrics in rows.items():
            more = ", step" if "step" in fields else ""
            steps = (step,) if more else ()
            db.execute(
                f"INSERT INTO metrics ({own}, timestamp{more}, metrics)"
                f" VALUES ({marks}, ?{', ?' if more else ''}, ?)",
                (*values, TIME.format(step), *steps, _stored(metrics, schema)),
            )
    return path


def mlflow(path: Path, steps: range) -> Path:
    with database(path) as db:
        db.executescript(
            "CREATE TABLE IF NOT EXISTS runs (run_uuid TEXT PRIMARY KEY, name TEXT, status TEXT,"
            " start_time INT, end_time INT, lifecycle_stage TEXT);"
            "CREATE TABLE IF NOT EXISTS metrics (key TEXT, value FLOAT, timestamp INT,"
            " run_uuid TEXT, step INT, is_nan BOOL);"
            "CREATE TABLE IF NOT EXISTS params (key TEXT, value TEXT, run_uuid TEXT);"
            "CREATE TABLE IF NOT EXISTS tags (key TEXT, value TEXT, run_uuid TEXT);"
            "INSERT OR REPLACE INTO runs VALUES"
            " ('r1', 'mine', 'FINISHED', 1000000, 2000000, 'active'),"
            " ('r2', 'gone', 'FAILED', 1, 2, 'deleted'), ('r3', 'other', 'FAILED', 1, 2, 'active');"
            "INSERT INTO params VALUES ('lr', '0.1', 'r1');"
            "INSERT INTO tags VALUES ('team', 'x', 'r1'), ('mlflow.user', 'y', 'r1');"
            "INSERT INTO metrics VALUES ('loss', 9.0, 0, 'r3', 0, 0);"
        )
        for step in steps:
            time = 1_000_000 + 1_000 * step
            rows = [("loss", step / 2, 0), ("n", 0.0, 1), ("i", -1.7976931348623157e308, 0)]
            for key, value, is_nan in rows:
                row = (key, value, time, "r1", step, is_nan)
                db.execute("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", row)
    return path


# -- trackio -------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", TRACKIO)
def test_trackios_runs_are_read_and_followed(tmp_path: Path, schema: str) -> None:
    path = trackio(tmp_path / "p.db", schema, {0: {"loss": 1.0}, 1: {"loss": "NaN"}})
    [found] = Walk(tmp_path).find()
    assert (found.format, found.name) == ("trackio", "mine")
    reader = read_all(found)
    assert numbers(reader.table) == {"loss": [(0, "1.0"), (1, "nan")]}
    assert reader.table.series("time").values.tolist() == [START, START + 1]
    assert reader.facts.config == {"lr": "0.1", "model.width": "8"}
    assert reader.facts.started_at == START
    trackio(path, schema, {2: {"a": {"b": 3}, "img": {"_type": "trackio.image"}}})
    assert not reader.poll()
    assert numbers(reader.table)["a.b"] == [(2, "3.0")]
    assert reader.facts.notes == ("1 value of type trackio.image is not drawn",)


def test_the_machines_metrics_go_to_the_step_of_their_time(tmp_path: Path) -> None:
    path = trackio(tmp_path / "p.db", "with ids", {s: {"loss": s} for s in range(3)})
    with database(path) as db:
        db.execute(f"CREATE TABLE system_metrics ({_ID}run_id, run_name, timestamp, metrics)")
        row = ("abc", "mine", "2026-01-01T00:00:01.5+00:00", '{"gpu": 50}')
        db.execute(
            "INSERT INTO system_metrics (run_id, run_name, timestamp, metrics) VALUES (?, ?, ?, ?)",
            row,
        )
    assert numbers(read_all(*Walk(tmp_path).find()).table)["system/gpu"] == [(1, "50.0")]


def test_trackios_inbox_is_read_alone_and_beside_a_database(tmp_path: Path) -> None:
    def line(run: str, step: int) -> str:
        told = {"kind": "metric", "project": "p", "run": run, "run_id": run, "step": step}
        return json.dumps({**told, "metrics": {"loss": 1.0}, "log_id": f"{run}{step}"}) + "\n"

    inbox = tmp_path / "inbox" / "writer"
    inbox.mkdir(parents=True)
    (inbox / "0.jsonl").write_text(line("abc", 1) + "{broken\n" + line("other", 5))
    assert [(f.path.name, f.name) for f in Walk(tmp_path).find()] == [
        ("inbox", "abc"),
        ("inbox", "other"),
    ]
    trackio(tmp_path / "p.db", "with ids", {0: {"loss": 0.5}})
    own, other = Walk(tmp_path).find()
    assert [found.path.name for found in (own, other)] == ["p.db", "inbox"]
    reader = read_all(own)
    assert numbers(reader.table) == {"loss": [(0, "0.5"), (1, "1.0")]}
    (inbox / "1.jsonl").write_text(line("abc", 1) + line("abc", 2))
    reader.poll()
    assert numbers(reader.table)["loss"] == [(0, "0.5"), (1, "1.0"), (2, "1.0")]
    assert numbers(read_all(other).table) == {"loss": [(5, "1.0")]}


def test_a_fragment_may_hold_a_step_as_text_and_any_id(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox" / "writer"
    inbox.mkdir(parents=True)
    told = {"kind": "metric", "run": "a", "metrics": {"loss": 1.0}}
    lines = [{**told, "step": "5.0", "log_id": [1]}, {**told, "step": 6}]
    (inbox / "0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (own,) = Walk(tmp_path).find()
    assert numbers(read_all(own).table) == {"loss": [(5, "1.0"), (6, "1.0")]}


def test_a_fragment_is_read_once_and_a_folder_only_when_it_has_changed(tmp_path: Path) -> None:
    def line(kind: str, step: int, **metrics: float) -> str:
        told = {"kind": kind, "run": "a", "run_id": "abc", "step": step, "metrics": metrics}
        return json.dumps({**told, "timestamp": TIME.format(step)}) + "\n"

    writer = tmp_path / "inbox" / "writer"
    writer.mkdir(parents=True)
    first = writer / "00000000.jsonl"
    first.write_text(line("metric", 1, loss=1.0) + line("system_metric", 1, gpu=50.0))
    walk = Walk(tmp_path)
    [found] = walk.find()
    os.utime(writer, (1e9, 1e9))
    reader = read_all(found)
    assert numbers(reader.table) == {"loss": [(1, "1.0")], "system/gpu": [(1, "50.0")]}
    first.write_text(line("metric", 2, loss=2.0))  # it would not, in trackio
    os.utime(writer, (1e9, 1e9))
    reader.poll()
    assert len(numbers(reader.table)["loss"]) == 1
    (writer / "00000001.jsonl").write_text(line("metric", 3, loss=3.0))
    (writer / "00000002.jsonl").write_text("broken\n")
    reader.poll()
    assert numbers(reader.table)["loss"] == [(1, "1.0"), (3, "3.0")]
    assert reader.facts.problem == "1 fragment of the inbox cannot be read"
    for fragment in writer.iterdir():
        fragment.unlink()  # imported into a database
    assert not walk.find()


def test_thousands_of_rows_of_other_runs_are_passed_once(tmp_path: Path) -> None:
    path = trackio(tmp_path / "p.db", "with ids", {0: {"loss": 1.0}})
    with database(path) as db:
        db.execute("CREATE INDEX run_step ON metrics(run_id, step)")
        rows = ((f"r{i % 3}", f"n{i % 3}", TIME.format(0), i, '{"loss": 2}') for i in range(9))
        db.executemany(
            "INSERT INTO metrics (run_id, run_name, timestamp, step, metrics) VALUES (?,?,?,?,?)",
            rows,
        )
    found = Walk(tmp_path).find()
    assert {(one.key, one.name) for one in found} == {
        ("abc", "mine"), ("r0", "n0"), ("r1", "n1"), ("r2", "n2"),
    }  # fmt: skip
    reader = read_all(next(one for one in found if one.key == "abc"))
    trackio(path, "with ids", {1: {"loss": 0.5}})
    reader.poll()
    assert numbers(reader.table) == {"loss": [(0, "1.0"), (1, "0.5")]}


def test_a_query_without_an_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.foreign.sqlite._PATIENCE", 0.05)
    with database(tmp_path / "p.db") as db:
        db.execute(
            "CREATE VIEW metrics (run_name, timestamp, metrics) AS WITH RECURSIVE n(i) AS (SELECT 1"
            " UNION ALL SELECT i + 1 FROM n LIMIT 5000000) SELECT 'a', i, i FROM n"
        )
    assert not Walk(tmp_path).find()


# -- MLflow --------------------------------------------------------------------------------


def test_mlflows_runs_are_read_and_followed(tmp_path: Path) -> None:
    path = mlflow(tmp_path / "mlflow.db", range(2))
    found = Walk(tmp_path).find()
    assert [(one.key, one.name) for one in found] == [("r1", "mine"), ("r3", "other")]
    reader = read_all(found[0])
    assert numbers(reader.table) == {
        "loss": [(0, "0.0"), (1, "0.5")],
        "n": [(0, "nan"), (1, "nan")],
        "i": [(0, "-inf"), (1, "-inf")],
    }
    facts = reader.facts
    assert (facts.name, facts.status, facts.tags) == ("mine", "completed", ("team: x",))
    assert (facts.config, facts.started_at, facts.ended_at) == ({"lr": "0.1"}, 1e3, 2e3)
    mlflow(path, range(2, 3))
    assert not reader.poll()
    assert numbers(reader.table)["loss"][2:] == [(2, "1.0")]


def test_mlflows_older_folders(tmp_path: Path) -> None:
    run = tmp_path / "mlruns" / "0" / "abc"
    for folder in ("metrics/train", "params", "tags", "artifacts"):
        (run / folder).mkdir(parents=True)
    (run / "meta.yaml").write_text("run_name: mine\nstatus: 3\nstart_time: 5000\nend_time: null\n")
    (run / "params" / "lr").write_text("0.1")
    (run / "tags" / "mlflow.user").write_text("x")
    loss = run / "metrics" / "train" / "loss"
    loss.write_text("1000 0.5 0\nbroken\n2000 nan 1\n30")
    (run / "metrics" / "acc").write_text("1000 0.25 0\n")
    [found] = Walk(tmp_path).find()
    reader = read_all(found)
    assert numbers(reader.table) == {
        "acc": [(0, "0.25")],
        "train/loss": [(0, "0.5"), (1, "nan")],
    }
    assert reader.facts.problem == "1 damaged line left out"
    with loss.open("a") as file:
        file.write("00 0.75 2\n")
    reader.poll()
    assert numbers(reader.table)["train/loss"][2:] == [(2, "0.75")]
    facts = reader.facts
    assert (facts.name, facts.status, facts.started_at) == ("mine", "completed", 5.0)
    assert (facts.config, facts.tags) == ({"lr": "0.1"}, ())


def test_a_deleted_run_and_a_logged_model_are_no_runs(tmp_path: Path) -> None:
    metas = {
        "0/kept": "run_id: kept\nlifecycle_stage: active\n",
        "0/gone": "run_id: gone\nlifecycle_stage: deleted\n",
        "0/models/m-1": "model_id: m-1\nlifecycle_stage: active\n",
        ".trash/1/old": "run_id: old\nlifecycle_stage: deleted\n",
    }
    for place, meta in metas.items():
        run = tmp_path / "mlruns" / place
        (run / "metrics").mkdir(parents=True)
        (run / "metrics" / "loss").write_text("1000 0.5 0\n")
        (run / "meta.yaml").write_text(meta)
    walk = Walk(tmp_path)
    assert [found.path.name for found in walk.find()] == ["kept"]
    gone = tmp_path / "mlruns" / "0" / "gone"
    (gone / "meta.yaml").write_text(metas["0/kept"])  # restored
    assert {found.path.name for found in walk.find()} == {"kept", "gone"}


def test_what_has_not_changed_in_a_folder_is_not_opened_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for folder in ("metrics", "params", "tags"):
        (run / folder).mkdir(parents=True)
    (run / "meta.yaml").write_text("run_name: mine\n")
    (run / "params" / "lr").write_text("0.1")
    loss, other = run / "metrics" / "loss", run / "metrics" / "other"
    for path in (loss, other):
        path.write_text("1000 0.5 0\n")
    reader = read_all(*Walk(run).find())
    seen = loss.stat()
    loss.write_text("1000 0.7 5\n")  # as long as before, and of the same time
    os.utime(loss, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with other.open("a") as file:
        file.write("2000 0.25 1\n")
    (run / "params" / "n").write_text("3")
    while reader.poll():
        pass
    assert numbers(reader.table) == {"loss": [(0, "0.5")], "other": [(0, "0.5"), (1, "0.25")]}
    assert reader.facts.config == {"lr": "0.1", "n": "3"}


# -- both ----------------------------------------------------------------------------------


def test_a_new_run_is_found_though_the_folders_time_is_the_same(tmp_path: Path) -> None:
    path = mlflow(tmp_path / "mlflow.db", range(1))
    held = sqlite3.connect(path)  # with a write-ahead log, the folder does not change
    held.execute("PRAGMA journal_mode = WAL")
    held.execute("INSERT INTO params VALUES ('x', '1', 'r1')")
    held.commit()
    walk = Walk(tmp_path)
    assert len(walk.find()) == 2
    held.execute("INSERT INTO runs VALUES ('r4', 'new', 'RUNNING', 1, NULL, 'active')")
    held.commit()
    assert "new" in {found.name for found in walk.find()}
    held.close()


@pytest.mark.parametrize("kind", ["trackio", "MLflow"])
def test_a_locked_database_keeps_its_runs_in_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("shared.foreign.sqlite._WAIT", 0.0)
    path = tmp_path / "x.db"
    if kind == "MLflow":
        mlflow(path, range(1))
    else:
        trackio(path, "with ids", {0: {"loss": 1.0}})
    walk = Walk(tmp_path)
    known = walk.find()
    assert known
    with database(path) as db:
        db.execute("BEGIN EXCLUSIVE")
        os.utime(path, (1e9, 1e9))
        assert walk.find() == known
    assert walk.find() == known


def test_a_locked_database_is_a_problem_until_it_is_free(tmp_path: Path) -> None:
    path = mlflow(tmp_path / "mlflow.db", range(1))
    found = Walk(tmp_path).find()[0]
    reader = format_named("MLflow").open(found)
    with database(path) as db:
        db.execute("BEGIN EXCLUSIVE")
        assert not reader.poll()
        assert reader.facts.problem == "mlflow.db cannot be read: database is locked"
    while reader.poll():
        pass
    assert (reader.facts.problem, numbers(reader.table)["loss"]) == ("", [(0, "0.0")])


def test_a_replaced_database_starts_over_and_a_missing_one_is_named(tmp_path: Path) -> None:
    path = mlflow(tmp_path / "mlflow.db", range(3))
    reader = read_all(Walk(tmp_path).find()[0])
    path.rename(tmp_path / "old")
    reader.poll()
    assert reader.facts.problem == "mlflow.db cannot be read: No such file or directory"
    assert len(numbers(reader.table)["loss"]) == 3
    mlflow(path, range(1))
    while reader.poll():
        pass
    assert numbers(reader.table)["loss"] == [(0, "0.0")]


@pytest.mark.parametrize("kind", ["trackio", "MLflow"])
def test_any_damage_is_a_sentence(tmp_path: Path, kind: str) -> None:
    if kind == "MLflow":
        path, key = mlflow(tmp_path / "x.db", range(3)), "r1"
    else:
        path = trackio(tmp_path / "x.db", "with ids", {s: {"loss": s} for s in range(3)})
        key = "abc"
    data = path.read_bytes()

    @settings(
        suppress_health_check=[HealthCheck.function_scoped_fixture],
        max_examples=25,
        deadline=None,
    )
    @given(end=st.integers(0, len(data)), at=st.integers(0, len(data)), junk=st.binary(max_size=40))
    def damaged(end: int, at: int, junk: bytes) -> None:
        path.write_bytes((data[:at] + junk + data[at + len(junk) :])[:end])
        runs_of_file(path)
        read_all(Found(path, kind, key))

    damaged()


def test_another_programs_database_is_no_log(tmp_path: Path) -> None:
    with database(tmp_path / "x.db") as db:
        db.execute("CREATE TABLE metrics (name TEXT)")
    assert Walk(tmp_path).find() == []
