"""`trainer train --upload`: a complete run goes to the Hub by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.run.directory import discover_runs
from shared.run.record_lines import read_records
from tests.conftest import RunCli
from tests.hub_server import HubServer

SMALL = ["--max-steps", "4", "--checkpoint-interval", "2", "--threads", "1", "--batch-size", "2"]


@pytest.fixture
def arguments(tmp_path: Path, token_data: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    shape = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "max_seq_len": 32}
    flags = [part for key, value in shape.items() for part in ("--set", f"model.{key}={value}")]
    place = ["--name", "tiny", "--runs-dir", str(tmp_path / "runs")]
    return ["train", *place, "--data-path", str(token_data), *SMALL, *flags]


def test_a_complete_run_is_sent(
    arguments: list[str], tmp_path: Path, hub: HubServer, run_cli: RunCli
) -> None:
    output = run_cli(*arguments, "--upload", "--hf-user", "lab")
    assert output.code == 0, output.err
    assert f"is at {hub.url}/lab/tiny (private" in output.out
    run = discover_runs(tmp_path / "runs")[0]
    assert [e["event"] for e in read_records(run.events_path)].count("uploaded") == 1
    assert "hub:" in run.config_path.read_text()


def test_without_a_login_nothing_is_trained(
    arguments: list[str], tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after three days, but at once."""
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    output = run_cli(*arguments, "--upload")
    assert output.code == 2
    assert "hf auth login" in output.err
    assert output.err.count("\n") == 1
    assert not discover_runs(tmp_path / "runs") if (tmp_path / "runs").exists() else True


def test_a_run_that_cannot_be_sent_is_complete_all_the_same(
    arguments: list[str], tmp_path: Path, hub: HubServer, run_cli: RunCli
) -> None:
    output = run_cli(*arguments, "--upload", "--hf-user", "somebody-else")
    assert output.code in (1, 2)
    assert "The run is complete, but its upload failed" in output.err
    assert "trainer upload" in output.err
    state = discover_runs(tmp_path / "runs")[0].read_state()
    assert state is not None
    assert state.status == "completed"


def test_two_owners_are_one_too_many(arguments: list[str], hub: HubServer, run_cli: RunCli) -> None:
    output = run_cli(*arguments, "--upload", "--hf-user", "lab", "--set", "hub.repo=ada/tiny")
    assert output.code == 2
    assert "names its owner" in output.err
