"""Real trainings that tell of their end, or try to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.run.directory import discover_runs
from tests.conftest import RunCli
from tests.trainer.alerts.conftest import PATH, TOKEN, Server
from trainer.alerts.settings import VARIABLE

TINY = {
    "model.vocab_size": 258,
    "model.hidden_size": 16,
    "model.intermediate_size": 32,
    "model.num_layers": 1,
    "model.num_heads": 2,
    "model.num_kv_heads": 2,
    "model.max_seq_len": 16,
    "train.batch_size": 2,
    "train.max_steps": 4,
    "train.threads": 1,
    "optim.warmup_steps": 1,
    "eval.interval": 4,
    "eval.batches": 1,
    "eval.sample_interval": 0,
    "log.interval": 1,
}


def train(run_cli: RunCli, runs: Path, data: Path) -> tuple[int, str]:
    options = [x for key, value in TINY.items() for x in ("--set", f"{key}={value}")]
    place = ["--runs-dir", runs, "--data-path", data, "--device", "cpu", "--name", "told"]
    code, out, err = run_cli("train", *place, *options)
    return code, out + err


@pytest.fixture
def alerts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "alerts.yaml"
    monkeypatch.setenv(VARIABLE, str(file))
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)
    return file


def test_a_training_tells_that_it_finished(
    tmp_path: Path, run_cli: RunCli, token_data: Path, alerts: Path, server: Server
) -> None:
    alerts.write_text(json.dumps({"webhook": {"url": server.url, "token_env": "HOOK_TOKEN"}}))
    code, said = train(run_cli, tmp_path / "runs", token_data)
    assert code == 0, said
    [run] = discover_runs(tmp_path / "runs")
    [posted] = server.posted
    assert posted.headers["Authorization"] == f"Bearer {TOKEN}"
    assert posted.body["kind"] == "finished"
    assert (posted.body["run_id"], posted.body["run_name"]) == (run.run_id, "told")
    assert (posted.body["step"], posted.body["max_steps"]) == (4, 4)
    assert posted.body["loss"] > 0
    kept = b"".join(p.read_bytes() for p in run.path.rglob("*") if p.is_file())
    for secret in (TOKEN, PATH):
        assert secret not in said
        assert secret.encode() not in kept


def test_a_dead_endpoint_holds_up_nothing(
    tmp_path: Path, run_cli: RunCli, token_data: Path, alerts: Path, closed_port: int
) -> None:
    alerts.write_text(f"webhook: {{url: 'http://127.0.0.1:{closed_port}{PATH}'}}")
    code, said = train(run_cli, tmp_path / "runs", token_data)
    assert code == 0, said
    [run] = discover_runs(tmp_path / "runs")
    state = run.read_state()
    assert state is not None
    assert state.status == "completed"
    assert state.ended_at is not None
    assert "cannot be reached: Connection refused; finished was not delivered" in said
    assert PATH not in said


def test_wrong_settings_are_told_before_a_run_is_made(
    tmp_path: Path, run_cli: RunCli, token_data: Path, alerts: Path
) -> None:
    alerts.write_text("webhok: {}")
    code, said = train(run_cli, tmp_path / "runs", token_data)
    assert code == 2
    assert "unknown key webhok (did you mean webhook?)" in said
    assert not (tmp_path / "runs").exists() or not discover_runs(tmp_path / "runs")
