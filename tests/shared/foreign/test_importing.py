"""Run directories made of other tools' runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.errors import UserError
from shared.foreign.event_proto import message
from shared.foreign.importing import import_run, run_at
from shared.ownership.standing import standing
from shared.run.config import flat_config
from shared.run.directory import RunDirectory
from shared.run.metrics_log import MetricsReader
from tests.conftest import RunCli
from tests.shared.foreign.making import numbers
from tests.shared.foreign.test_databases import mlflow
from tests.shared.foreign.test_tensorboard import HEADER, NAME, OTHER, event, written


def test_a_run_is_imported_with_its_times_settings_and_status(
    tmp_path: Path, run_cli: RunCli
) -> None:
    source, runs = mlflow(tmp_path / "mlflow.db", range(3)), tmp_path / "runs"
    done = run_cli("runs", "import", source, "--run", "mine", "--runs-dir", runs)
    assert done.code == 0, done.err
    (path,) = (p for p in runs.iterdir() if not p.name.startswith("."))
    assert len(list(runs.iterdir())) == 1
    again = run_cli("runs", "import", source, "--run", "r1", "--name", "é", "--runs-dir", runs)
    assert again.code == 0, again.err
    imported = import_run(run_at(source, "other"), runs, "third")
    assert (imported.records, imported.series) == (1, 1)
    run = RunDirectory(path)
    state, health = standing(run)
    assert (health.status, state.run_name, state.current_step) == ("completed", "mine", 2)
    assert (state.started_at, state.ended_at, state.best_loss) == (1e3, 2e3, 0.0)
    assert state.exit is not None
    assert state.exit.reason == f"imported from MLflow: {source} (r1)"
    assert flat_config(run.config_path.read_text()) == {"lr": "0.1"}
    table = MetricsReader(run.metrics_path).read_all()
    assert numbers(table)["loss"] == [(0, "0.0"), (1, "0.5"), (2, "1.0")]
    assert numbers(table)["n"] == [(step, "nan") for step in range(3)]
    assert table.series("time").values.tolist() == [1e3, 1e3 + 1, 1e3 + 2]
    assert json.loads(run.events_path.read_text())["event"] == "imported"


def test_a_pass_that_was_given_up_stays_one(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / NAME).write_bytes(HEADER + b"".join(event(s, loss=float(s)) for s in range(6)))
    (folder / OTHER).write_bytes(HEADER + event(2, loss=20.0) + event(3, loss=30.0))
    imported = import_run(run_at(folder), tmp_path / "runs")
    table = MetricsReader(imported.run.metrics_path).read_all()
    loss = dict(numbers(table)["loss"])
    assert [loss[step] for step in range(4)] == ["0.0", "1.0", "20.0", "30.0"]
    assert (table.facts.front, table.facts.given_up_after) == (3, 3)
    assert "do not tell how it ended" in standing(imported.run)[1].reason


@pytest.mark.parametrize("source", ["missing", "empty.csv", "several"])
def test_what_cannot_be_imported_leaves_nothing(
    tmp_path: Path, source: str, run_cli: RunCli
) -> None:
    (tmp_path / "empty.csv").write_text("step,loss\n")
    (tmp_path / "several").mkdir()
    mlflow(tmp_path / "several" / "mlflow.db", range(1))
    done = run_cli("runs", "import", tmp_path / source, "--runs-dir", tmp_path / "runs")
    assert (done.code, (tmp_path / "runs").exists()) == (2, False)
    assert source in done.err


def test_a_run_without_metrics_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(HEADER)
    with pytest.raises(UserError, match="it holds no metrics with a step"):
        import_run(run_at(tmp_path), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("moment", [1e300, float("nan"), -5.0])
def test_a_start_that_no_calendar_has_is_left_out(
    tmp_path: Path, run_cli: RunCli, moment: float
) -> None:
    start = message("HParams")(session_start_info={"start_time_secs": moment})
    plugin = {"plugin_name": "hparams", "content": start.SerializeToString()}
    value = {"metadata": {"plugin_data": plugin}}
    written(tmp_path / "logs", event(1, loss=0.5, _hparams_=value))
    done = run_cli("runs", "import", tmp_path / "logs", "--runs-dir", tmp_path / "runs")
    assert done.code == 0, done.err
    [run] = (tmp_path / "runs").iterdir()
    state = RunDirectory(run).read_state()
    assert state is not None
    assert state.started_at == 1e9 + 1  # of its first record
