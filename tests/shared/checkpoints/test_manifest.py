"""A checkpoint's manifest finds every damage."""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path

import pytest

from shared.checkpoints.manifest import (
    MANIFEST,
    PACKED,
    file_sha256,
    find_problems,
    read_manifest,
    sizes_match,
    verify_folder,
    write_manifest,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "step_12"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 4)
    (folder / "config.json").write_text('{"hidden_size": 8}')
    (folder / "empty").write_bytes(b"")
    write_manifest(folder, 12, {"loss": 1.25, "val_loss": None, "from": {"manifest_sha256": "a"}})
    return folder


def test_a_sound_folder_has_no_problems(folder: Path) -> None:
    assert verify_folder(folder) == []
    manifest = read_manifest(folder)
    assert manifest is not None
    assert (manifest.step, manifest.total_bytes, set(manifest.files)) == (
        12,
        1042,
        {"model.safetensors", "config.json", "empty"},
    )
    assert manifest.facts == {"loss": 1.25, "val_loss": None, "from": {"manifest_sha256": "a"}}
    assert sizes_match(folder, manifest)


def test_every_flipped_bit_is_found(folder: Path) -> None:
    chance = random.Random(1)
    for path in folder.iterdir():
        data = path.read_bytes()
        bits = range(8 * len(data))
        sample = bits if path.name == MANIFEST else chance.sample(bits, min(400, len(bits)))
        with path.open("r+b", buffering=0) as file:
            for bit in sample:
                place = bit // 8
                file.seek(place)
                file.write(bytes([data[place] ^ 1 << bit % 8]))
                assert verify_folder(folder), (path.name, bit)
                file.seek(place)
                file.write(data[place : place + 1])
    assert verify_folder(folder) == []


def test_every_truncation_is_found(folder: Path) -> None:
    for path in folder.iterdir():
        data = path.read_bytes()
        for size in reversed(range(len(data))):
            os.truncate(path, size)
            assert verify_folder(folder), (path.name, size)
        path.write_bytes(data)


def test_missing_longer_and_strange_files_are_named(folder: Path) -> None:
    (folder / "config.json").write_text('{"hidden_size": 16}')
    (folder / "model.safetensors").unlink()
    (folder / "empty").unlink()
    (folder / "empty").mkdir()
    problems = verify_folder(folder)
    assert len(problems) == 3
    assert "step_12/config.json has 19 bytes instead of 18" in problems
    assert any(p.startswith("step_12/model.safetensors cannot be read") for p in problems)
    assert "step_12/empty is not a file" in problems
    manifest = read_manifest(folder)
    assert manifest is not None
    assert not sizes_match(folder, manifest)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", ".", "", "nul\0byte"])
def test_a_manifest_cannot_speak_of_files_elsewhere(folder: Path, name: str) -> None:
    (folder.parent / "x").write_bytes(b"")
    entry = {"bytes": 0, "sha256": file_sha256(folder.parent / "x")}
    (folder / MANIFEST).write_text(json.dumps({"step": 1, "files": {name: entry}}))
    assert read_manifest(folder) is None
    assert verify_folder(folder) == ["step_12/manifest.json is missing or unreadable"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"step":"1","files":{}}',
        '{"step":1,"files":[]}',
        '{"step":1,"files":{"a":3}}',
        '{"step":1,"files":{"a":{"bytes":"1","sha256":""}}}',
        '{"step":1,"files":{},"packed":[]}',
        '{"step":1,"files":{},"packed":{"a":{"bytes":1,"sha256":""}}}',
    ],
)
def test_what_is_no_manifest_is_none(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    assert read_manifest(folder) is None
    assert verify_folder(folder)


def test_a_manifest_without_its_own_checksum_is_not_sound(folder: Path) -> None:
    value = json.loads((folder / MANIFEST).read_bytes())
    del value["manifest_sha256"]
    (folder / MANIFEST).write_text(json.dumps(value))
    assert verify_folder(folder) == ["step_12/manifest.json does not match its own checksum"]


def test_the_originals_of_packed_files_are_told_of(folder: Path) -> None:
    original = file_sha256(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / ("model.safetensors" + PACKED))
    entry = {"model.safetensors": (1024, original)}
    written = write_manifest(folder, 12, {"loss": 1.25}, packed=entry, created_at=5.0)
    manifest = read_manifest(folder)
    assert manifest == written
    assert (manifest.packed, manifest.created_at, manifest.facts) == (entry, 5.0, {"loss": 1.25})
    assert "model.safetensors" not in manifest.files
    assert verify_folder(folder) == []


def test_the_quick_look_reads_no_data(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[::-1])
    read: list[int] = []
    assert find_problems(folder, read.append, deep=False) == []
    assert read == []
    assert len(find_problems(folder, read.append)) == 1
    assert sum(read) == 1042


def test_damage_is_told_from_what_may_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "empty").unlink()
    assert [p.damaged for p in find_problems(folder)] == [True]
    original = Path.open

    def stale(path: Path, *args: object, **kwargs: object) -> object:
        if path.name == "model.safetensors":
            raise OSError(errno.ESTALE, "Stale file handle")
        return original(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", stale)
    assert sorted(p.damaged for p in find_problems(folder)) == [False, True]
