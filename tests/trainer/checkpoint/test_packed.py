"""Packed checkpoints are read as they are; damage to any file of any form is never loaded."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
import torch

from shared.checkpoints.catalogue import is_in_use, list_checkpoints
from shared.checkpoints.compression import pack_checkpoint
from shared.checkpoints.manifest import PACKED, file_sha256, verify_folder
from shared.errors import RunError, UserError
from shared.run.directory import RunDirectory, discover_runs
from trainer.checkpoint.finding import find_checkpoint
from trainer.checkpoint.loading import (
    load_model,
    load_weights,
    model_config,
    read_progress,
)
from trainer.checkpoint.unpacking import unpacked
from trainer.cli.main import main

CPU = torch.device("cpu")
TINY = [
    part
    for setting in (
        "model.vocab_size=11",
        "model.hidden_size=8",
        "model.num_layers=1",
        "model.num_heads=2",
        "model.max_seq_len=16",
        "train.seq_len=8",
        "train.batch_size=2",
        "train.threads=1",
    )
    for part in ("--set", setting)
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with the steps 3 and 6, and final."""
    runs = tmp_path_factory.mktemp("runs")
    flags = ["--name", "t", "--max-steps", "6", "--checkpoint-interval", "3", "--deterministic"]
    assert main(["train", "--dataset", "synthetic", "--runs-dir", str(runs), *TINY, *flags]) == 0
    torch.use_deterministic_algorithms(False)
    return discover_runs(runs)[0].path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunDirectory:
    return RunDirectory(Path(shutil.copytree(trained, tmp_path / "runs" / "t", symlinks=True)))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_packed_model_is_the_same_model(run: RunDirectory, temporary: Path) -> None:
    folder = run.checkpoints / "step_3"
    plain = load_model(folder, CPU).model.state_dict()
    pack_checkpoint(folder)
    assert not (folder / "model.safetensors").exists()
    loaded = load_model(folder, CPU)
    assert loaded.folder == folder
    packed = loaded.model.state_dict()
    assert all(torch.equal(packed[name], value) for name, value in plain.items())
    assert model_config(folder) == loaded.model.config
    load_weights(loaded.model, folder)
    assert read_progress(folder)[0].step == 3
    assert list(temporary.iterdir()) == []


def test_every_way_of_naming_it_still_means_it(run: RunDirectory) -> None:
    folder = run.checkpoints / "step_3"
    link = run.checkpoints / "ckpt_step_3.safetensors"
    link.symlink_to("step_3/model.safetensors")
    pack_checkpoint(folder)
    for name in (folder, folder / "model.safetensors", folder / f"model.safetensors{PACKED}", link):
        assert find_checkpoint(name) == folder.resolve()
    for name in (folder / "model.safetensor", run.checkpoints / "nothing", "x" * 300, "a\0b"):
        with pytest.raises((UserError, OSError)):
            find_checkpoint(name)
    flags = ["--runs-dir", str(run.path.parent), "--max-steps", "7"]
    assert main(["train", "--resume", str(link), *flags]) == 0


def test_a_resume_from_a_packed_checkpoint_ends_with_the_same_bytes(
    run: RunDirectory, temporary: Path
) -> None:
    whole = file_sha256(run.checkpoints / "final" / "model.safetensors")
    for name in ("final", "step_6"):
        shutil.rmtree(run.checkpoints / name)
    pack_checkpoint(run.checkpoints / "step_3")
    assert main(["resume", str(run.path)]) == 0
    torch.use_deterministic_algorithms(False)
    assert file_sha256(run.checkpoints / "final" / "model.safetensors") == whole
    assert list(temporary.iterdir()) == []


def test_a_plain_checkpoint_is_opened_where_it_lies(run: RunDirectory, temporary: Path) -> None:
    folder = run.checkpoints / "step_3"
    with unpacked(folder) as plain:
        assert plain == folder
        assert is_in_use(folder)
        assert list(temporary.iterdir()) == []
    assert not is_in_use(folder)


def test_an_opened_packed_checkpoint_is_whole_and_temporary(
    run: RunDirectory, temporary: Path
) -> None:
    folder = run.checkpoints / "step_3"
    before = {p.name: file_sha256(p) for p in folder.iterdir() if p.name != "manifest.json"}
    pack_checkpoint(folder)
    with unpacked(folder) as plain:
        assert plain.name == "step_3"
        assert {p.name: file_sha256(p) for p in plain.iterdir()} == before
        assert is_in_use(folder)
        with unpacked(plain) as again:
            assert again == plain
    with unpacked(folder, ("model.safetensors",)) as plain:
        assert not (plain / "optimizer.safetensors").exists()
    assert list(temporary.iterdir()) == []


def test_too_little_room_is_told_before_unpacking(
    run: RunDirectory, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run.checkpoints / "step_3"
    pack_checkpoint(folder)
    usage = shutil.disk_usage(temporary)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(RunError, match=r"10 B free of the .* point TMPDIR"):
        load_model(folder, CPU)
    assert list(temporary.iterdir()) == []


def test_what_a_killed_reader_unpacked_is_removed_by_the_next(
    run: RunDirectory, temporary: Path
) -> None:
    folder = run.checkpoints / "step_3"
    pack_checkpoint(folder)
    pid = os.fork()
    if pid == 0:
        with unpacked(folder):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    (left,) = temporary.iterdir()
    assert not is_in_use(folder), "its lock died with it"
    old = time.time() - 3600
    os.utime(left, (old, old))
    with unpacked(folder) as plain:
        os.utime(plain.parent, (old, old))
        with unpacked(folder):
            assert plain.is_dir(), "one in use stays, however old"
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("packed", [False, True])
def test_no_flipped_bit_and_no_truncation_is_ever_loaded(run: RunDirectory, packed: bool) -> None:
    """1000 flips and 100 truncations over every file, in both forms."""
    folder = run.checkpoints / "step_3"
    if packed:
        pack_checkpoint(folder)
    chance = random.Random(5)
    paths = sorted(folder.iterdir())
    assert len(paths) >= 7
    flips, cuts = -(-500 // len(paths)), -(-50 // len(paths))
    for path in paths:
        data = path.read_bytes()
        wrong = [data[: chance.randrange(len(data))] for _ in range(cuts)]
        for _ in range(flips):
            spoilt = bytearray(data)
            spoilt[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            wrong.append(bytes(spoilt))
        for content in wrong:
            path.write_bytes(content)
            assert verify_folder(folder), path.name
            with pytest.raises(RunError):
                load_model(folder, CPU)
        path.write_bytes(data)
    load_model(folder, CPU)


def test_a_damaged_packed_checkpoint_is_set_aside_by_a_resume(run: RunDirectory) -> None:
    for name in ("step_6", "final"):
        pack_checkpoint(run.checkpoints / name)
        path = run.checkpoints / name / f"optimizer.safetensors{PACKED}"
        data = bytearray(path.read_bytes())
        data[-9] ^= 2
        path.unlink()  # the two are one file on the disk
        path.write_bytes(data)
    assert main(["resume", str(run.path), "--max-steps", "7"]) == 0
    torch.use_deterministic_algorithms(False)
    aside = sorted(p.name for p in run.checkpoints.glob("*.corrupt"))
    assert aside == ["final.corrupt", "step_6.corrupt"]
    assert all(info.whole for info in list_checkpoints(run.checkpoints))
