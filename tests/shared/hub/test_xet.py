"""Uploads through Xet: the real hf_xet with a chunk store in a folder."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from shared.errors import RunError
from shared.hub.settings import UploadCancelledError, UploadProgress
from shared.hub.upload import upload_checkpoint
from shared.run.directory import RunDirectory
from tests.hub_server import HubServer
from tests.shared.hub.conftest import Upload

NAME = "ada/tiny"
LFS = r"PUT /lfs/.*|objects/batch"


@pytest.fixture
def xet(hub: HubServer, tmp_path: Path) -> HubServer:
    """A Hub that offers Xet."""
    hub.xet = tmp_path / "store"
    return hub


def model_folder(folder: Path, values: np.ndarray) -> Path:
    """A model folder that is large enough to be cut into many chunks."""
    folder.mkdir(exist_ok=True)
    save_file({"weight": values}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


def test_weights_go_through_the_chunk_store(
    run: RunDirectory, xet: HubServer, upload: Upload
) -> None:
    told: list[UploadProgress] = []
    uploaded = upload(told.append)
    weights = xet.repos[NAME].files["model.safetensors"]
    assert weights == (run.checkpoints / uploaded.name / "model.safetensors").read_bytes()
    assert xet.count(r"PUT /lfs/") == 1, "only the picture goes as an LFS object"
    assert uploaded.sent > 0
    done = [p.file_bytes for p in told if p.stage == "sending" and p.file == "model.safetensors"]
    assert done == sorted(done)
    assert done[-1] == len(weights)


def test_chunks_that_are_there_are_not_sent_again(
    xet: HubServer, upload: Upload, tmp_path: Path
) -> None:
    generator = np.random.default_rng(1)
    values = generator.standard_normal(1_500_000).astype(np.float32)
    folder = model_folder(tmp_path / "model", values)
    settings = upload.settings()
    first = upload_checkpoint(folder, settings)
    assert first.sent > values.nbytes // 2
    values[:1000] += 1.0
    second = upload_checkpoint(model_folder(folder, values), settings)
    assert second.sent < first.sent // 4, "unchanged chunks were sent again"
    stored = tmp_path / "stored.safetensors"
    stored.write_bytes(xet.repos[NAME].files["model.safetensors"])
    assert np.array_equal(load_file(stored)["weight"], values)


def test_a_cancelled_upload_leaves_no_commit(
    xet: HubServer, upload: Upload, tmp_path: Path
) -> None:
    values = np.random.default_rng(2).standard_normal(4_000_000).astype(np.float32)
    folder = model_folder(tmp_path / "model", values)
    cancel = threading.Event()

    def stop(progress: UploadProgress) -> None:
        if progress.stage == "sending":
            cancel.set()

    with pytest.raises(UploadCancelledError):
        upload_checkpoint(folder, upload.settings(), stop, cancel)
    assert xet.repos[NAME].commits == []
    assert upload_checkpoint(folder, upload.settings()).files > 1


def test_a_failing_store_is_one_sentence(xet: HubServer, upload: Upload, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    xet.xet = blocked
    with pytest.raises(RunError, match=r"Xet storage failed: .*HF_HUB_DISABLE_XET=1"):
        upload()
    assert xet.repos[NAME].commits == []


def test_a_hub_without_xet_gets_lfs_objects(hub: HubServer, upload: Upload) -> None:
    upload()
    assert hub.count("xet-write-token") == 1
    assert hub.count(LFS) > 1


def test_xet_can_be_turned_off(
    xet: HubServer, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    upload()
    assert xet.count("xet-write-token") == 0
    assert xet.count(LFS) > 1
