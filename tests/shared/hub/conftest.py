"""A real run of a tiny model, and a Hub to send it to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.hub.settings import Progress, Uploaded, UploadSettings, unwatched
from shared.hub.upload import upload_checkpoint
from shared.run.directory import RunDirectory, discover_runs
from tests.conftest import RunCli
from tests.hub_server import TOKEN, HubServer

FLAGS = {
    "model.hidden_size": 32,
    "model.num_layers": 2,
    "model.num_heads": 4,
    "model.num_kv_heads": 2,
    "model.max_seq_len": 64,
    "optim.warmup_steps": 4,
    "eval.batches": 2,
    "eval.sample_interval": 0,
}


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, token_data: Path, run_cli: RunCli
) -> RunDirectory:
    """Twelve steps, saved every four, validated every two."""
    runs = tmp_path_factory.mktemp("runs")
    flags = [part for key, value in FLAGS.items() for part in ("--set", f"{key}={value}")]
    arguments = ["--name", "tiny", "--runs-dir", str(runs), "--data-path", str(token_data)]
    lengths = ["--max-steps", "12", "--checkpoint-interval", "4", "--eval-interval", "2"]
    output = run_cli("train", *arguments, *lengths, *flags, "--threads", "1", "--batch-size", "2")
    assert output.code == 0, output.err
    return discover_runs(runs)[0]


@pytest.fixture
def run(trained: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of it, to be spoilt."""
    path = tmp_path / "runs" / trained.run_id
    shutil.copytree(trained.path, path, symlinks=True)
    return RunDirectory(path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A Hub of its own, to which everybody here is logged in."""
    from huggingface_hub import constants

    work = tmp_path / "tmp"
    work.mkdir()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("TMPDIR", str(work))
    monkeypatch.setattr("tempfile.tempdir", str(work))
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
    assert list(work.iterdir()) == [], "a staging folder was left behind"


class Upload:
    """Uploads the run as `ada/tiny`, with short waits; keywords are settings."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def settings(self, **settings: Any) -> UploadSettings:
        return UploadSettings(**{"repo": "tiny", "waits": (0.01, 0.01), **settings})

    def __call__(
        self, progress: Progress = unwatched, cancel: Any = None, **settings: Any
    ) -> Uploaded:
        return upload_checkpoint(self._run, self.settings(**settings), progress, cancel)


@pytest.fixture
def upload(run: RunDirectory, hub: HubServer) -> Upload:
    """How the tests upload."""
    return Upload(run)
