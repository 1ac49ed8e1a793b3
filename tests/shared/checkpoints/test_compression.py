"""Packed checkpoints: smaller, the same to the last bit, and whole at every moment."""

from __future__ import annotations

import json
import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.checkpoints.catalogue import (
    FINAL,
    LATEST,
    clean_leftovers,
    in_use,
    is_checkpoint,
    list_checkpoints,
    newest_sound,
    set_link,
    step_folder,
)
from shared.checkpoints.compression import choose, pack_checkpoint, unpack_checkpoint
from shared.checkpoints.manifest import (
    MANIFEST,
    PACKED,
    file_sha256,
    read_manifest,
    verify_folder,
    write_manifest,
)
from shared.checkpoints.packed_file import element_size, pack_file, unpack_file
from shared.errors import RunError, UserError
from tests.shared.killing import kill_at_each_step


def tensors(path: Path, values: np.ndarray, dtype: str = "F32", tail: int = 0) -> None:
    """A safetensors file of one tensor, and `tail` bytes of another kind."""
    data = values.tobytes()
    entries = {"w": {"dtype": dtype, "shape": [values.size], "data_offsets": [0, len(data)]}}
    if tail:
        end = len(data) + tail
        entries["rng"] = {"dtype": "U8", "shape": [tail], "data_offsets": [len(data), end]}
    text = json.dumps(entries).encode()
    text = text.ljust((len(text) + 7) // 8 * 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data + bytes(tail))


def weights(count: int, seed: int = 0) -> np.ndarray:
    """Numbers like trained weights."""
    return (np.random.default_rng(seed).standard_normal(count) * 0.02).astype(np.float32)


def save(checkpoints: Path, step: int, name: str = "", count: int = 3000) -> Path:
    folder = checkpoints / name if name else step_folder(checkpoints, step)
    folder.mkdir(parents=True)
    tensors(folder / "model.safetensors", weights(count, step))
    tensors(folder / "optimizer.safetensors", np.abs(weights(2 * count, -step % 100)), tail=77)
    (folder / "config.json").write_text('{"hidden_size": 8}')
    (folder / "tokenizer.json").write_text("[" + "1," * 500 + "1]")
    write_manifest(folder, step, {"loss": 2.5, "val_loss": None})
    return folder


def sums(folder: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in folder.iterdir()}


# -- one file ----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    data=st.one_of(st.binary(max_size=300), st.integers(0, 400_000).map(bytes)),
    element=st.sampled_from([1, 2, 4, 8]),
    block=st.sampled_from([1, 3, 8, 100, 4096]),
    threads=st.sampled_from([1, 3]),
)
def test_any_bytes_come_back(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, element: int, block: int, threads: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    source, packed, back = (folder / name for name in ("a", "b", "c"))
    source.write_bytes(data[: 300 * block])
    entry = pack_file(source, packed, threads=threads, block=block, element=element)
    unpack_file(packed, back, entry, threads=threads)
    assert back.read_bytes() == source.read_bytes()
    assert entry == (source.stat().st_size, file_sha256(source))


@pytest.mark.parametrize(
    ("dtype", "kind", "expected"),
    [("F32", "<f4", 4), ("BF16", "<u2", 2), ("F16", "<f2", 2), ("F64", "<f8", 8), ("U8", "u1", 1)],
)
def test_numbers_are_taken_apart_by_their_size(
    tmp_path: Path, dtype: str, kind: str, expected: int
) -> None:
    path = tmp_path / "x.safetensors"
    tensors(path, np.zeros(100, kind), dtype)
    assert element_size(path) == expected


@pytest.mark.parametrize(
    "data", [b"", b"1234567", b"\xff" * 8, bytes(8), b"\x02" + bytes(7) + b"[]", b"\x04" + bytes(9)]
)
def test_what_is_no_safetensors_file_is_taken_as_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    assert element_size(path) == 1
    entry = pack_file(path, tmp_path / "y")
    unpack_file(tmp_path / "y", None, entry)


def test_weights_get_smaller_than_by_zstd_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors(path, weights(300_000))
    pack_file(path, tmp_path / "ours")
    # Numbers of one byte are not sorted: what zstd makes of the file.
    pack_file(path, tmp_path / "plain", element=1)
    plain = (tmp_path / "plain").stat().st_size
    assert (tmp_path / "ours").stat().st_size < 0.93 * plain


def test_every_damage_to_a_packed_file_is_found_by_itself(tmp_path: Path) -> None:
    """Also without the manifest's checksum of the packed form, and quickly."""
    source, packed = tmp_path / "x.safetensors", tmp_path / "x.packed"
    tensors(source, weights(2000))
    entry = pack_file(source, packed)
    data = packed.read_bytes()
    chance = random.Random(3)
    spoilt = [data[:n] for n in chance.sample(range(len(data)), 100)] + [data + b"x"]
    (tmp_path / "empty").touch()
    pack_file(tmp_path / "empty", tmp_path / "header")
    header = range(8 * (tmp_path / "header").stat().st_size)
    for bit in [*header, *chance.sample(range(8 * len(data)), 500)]:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        spoilt.append(bytes(changed))
    harmless = 0
    for wrong in spoilt:
        packed.write_bytes(wrong)
        try:
            unpack_file(packed, tmp_path / "out", entry, threads=1)
        except RunError:
            continue
        # Padding, or a block size larger than the file: what comes out is right all the same.
        assert file_sha256(tmp_path / "out") == entry[1]
        harmless += 1
    assert harmless < 64


def test_a_later_format_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    entry = pack_file(tmp_path / "a", tmp_path / "b")
    data = bytearray((tmp_path / "b").read_bytes())
    data[6] = 9
    (tmp_path / "b").write_bytes(data)
    with pytest.raises(RunError, match="version 9"):
        unpack_file(tmp_path / "b", None, entry)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(megabytes: int) -> int:
        source, packed = tmp_path / "x.safetensors", tmp_path / "x.packed"
        tensors(source, np.zeros(megabytes << 18, np.float32))
        tracemalloc.start()
        entry = pack_file(source, packed, threads=2)
        unpack_file(packed, tmp_path / "out", entry, threads=2)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(64) < peak(16) + (4 << 20)


# -- a checkpoint ------------------------------------------------------------------------------


def test_a_packed_checkpoint_is_a_checkpoint_and_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = save(tmp_path, 7)
    before = sums(folder)
    done = pack_checkpoint(folder, threads=1)
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "manifest.json",
        "model.safetensors.packed",
        "optimizer.safetensors.packed",
        "tokenizer.json",
    ]
    assert done.bytes_after < 0.9 * done.bytes_before
    assert is_checkpoint(folder)
    assert verify_folder(folder) == []
    (info,) = list_checkpoints(tmp_path)
    assert (info.packed, info.whole, info.step, info.loss) == (True, True, 7, 2.5)
    assert info.bytes == done.bytes_after
    assert newest_sound(tmp_path) == (info, [])
    manifest = read_manifest(folder)
    assert manifest is not None
    assert {n: d for n, (_, d) in manifest.packed.items()} == {
        name: before[name] for name in ("model.safetensors", "optimizer.safetensors")
    }
    back = unpack_checkpoint(folder, threads=1)
    assert (back.bytes_before, back.bytes_after) == (done.bytes_after, done.bytes_before)
    assert sums(folder) == before, "the manifest too, time and all"
    assert [p.name for p in tmp_path.iterdir()] == ["step_7"]


def test_what_cannot_be_packed_is_left_as_it_is(tmp_path: Path) -> None:
    noise = save(tmp_path, 1)
    for name in ("model.safetensors", "optimizer.safetensors"):
        (noise / name).write_bytes(random.Random(1).randbytes(5000))
    write_manifest(noise, 1, {})
    before = sums(noise)
    done = pack_checkpoint(noise)
    assert done.bytes_before == done.bytes_after
    damaged = save(tmp_path, 2)
    (damaged / "tokenizer.json").write_text("[" + "2," * 500 + "1]")
    damaged_before = sums(damaged)
    with pytest.raises(RunError, match=r"tokenizer\.json does not match"):
        pack_checkpoint(damaged)
    packed = save(tmp_path, 3)
    with pytest.raises(UserError, match="is not compressed"):
        unpack_checkpoint(packed)
    pack_checkpoint(packed)
    with pytest.raises(UserError, match="is already compressed"):
        pack_checkpoint(packed)
    used = save(tmp_path, 4)
    with in_use(used), pytest.raises(UserError, match="is in use"):
        pack_checkpoint(used)
    assert (sums(noise), sums(damaged)) == (before, damaged_before)
    assert not list(tmp_path.glob(".tmp*"))
    assert is_checkpoint(used)
    assert verify_folder(used) == []


def test_a_full_disk_is_told_of_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path, 1)
    full = os.statvfs_result((4096, 4096, 100, 1, 1, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(RunError, match=r"4\.0 KiB free"):
        pack_checkpoint(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["step_1"]


def test_a_checkpoint_that_differs_when_read_back_stays_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path, 1)
    before = sums(folder)
    # The disk loses the last byte.
    monkeypatch.setattr(os, "fsync", lambda fd: os.ftruncate(fd, os.fstat(fd).st_size - 1))
    with pytest.raises(RunError, match="is damaged"):
        pack_checkpoint(folder)
    assert sums(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["step_1"]


def test_final_and_its_step_share_their_packed_files_too(tmp_path: Path) -> None:
    step = save(tmp_path, 9)
    (tmp_path / FINAL).mkdir()
    for path in step.iterdir():
        os.link(path, tmp_path / FINAL / path.name)
    before = sums(step)
    for folder in (step, tmp_path / FINAL):
        pack_checkpoint(folder)
    name = "model.safetensors" + PACKED
    assert (step / name).samefile(tmp_path / FINAL / name)
    for folder in (step, tmp_path / FINAL):
        unpack_checkpoint(folder)
    assert (step / "model.safetensors").samefile(tmp_path / FINAL / "model.safetensors")
    assert sums(step) == sums(tmp_path / FINAL) == before


def test_a_twin_that_is_damaged_is_not_linked(tmp_path: Path) -> None:
    step = save(tmp_path, 9)
    final = save(tmp_path, 9, FINAL)
    pack_checkpoint(step)
    packed = step / ("model.safetensors" + PACKED)
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 8
    packed.write_bytes(data)
    pack_checkpoint(final)
    assert verify_folder(final) == []
    assert verify_folder(step)


def test_cold_ones_are_chosen(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    set_link(tmp_path, LATEST, step_folder(tmp_path, 4))
    save(tmp_path, 4, FINAL)
    pack_checkpoint(step_folder(tmp_path, 2))
    with in_use(step_folder(tmp_path, 3)):
        chosen, left = choose(tmp_path)
    assert [info.name for info in chosen] == ["step_1"]
    assert {item.name: item.reason.partition(";")[0] for item in left} == {
        "step_3": "it is in use by another process",
        "step_4": "it is the latest",
        "final": "other programs load final directly",
    }
    assert [i.name for i in choose(tmp_path, ["step_4", "final"])[0]] == ["step_4", "final"]
    assert [i.name for i in choose(tmp_path, unpack=True)[0]] == ["step_2"]
    assert [(i.name, i.refused) for i in choose(tmp_path, ["step_2"])[1]] == [("step_2", False)]


def test_one_of_two_that_share_their_files_is_not_packed_alone(tmp_path: Path) -> None:
    step = save(tmp_path, 9)
    (tmp_path / FINAL).mkdir()
    for path in step.iterdir():
        os.link(path, tmp_path / FINAL / path.name)
    chosen, left = choose(tmp_path, ["step_9"])
    assert chosen == []
    assert left[0].refused
    assert "shares its files with final" in left[0].reason
    assert len(choose(tmp_path, ["step_9", "final"])[0]) == 2


# -- killed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("unpack", [False, True])
def test_packing_killed_anywhere_leaves_a_whole_checkpoint(tmp_path: Path, unpack: bool) -> None:
    act = unpack_checkpoint if unpack else pack_checkpoint
    originals: dict[str, str] = {}

    def prepare(checkpoints: Path) -> None:
        folder = save(checkpoints, 5, count=300)
        originals.update(sums(folder))
        if unpack:
            pack_checkpoint(folder, threads=1)

    seen: set[bool] = set()

    def check(checkpoints: Path) -> None:
        folder = checkpoints / "step_5"
        assert readable(folder, originals)
        clean_leftovers(checkpoints)
        assert readable(folder, originals)
        assert [p.name for p in checkpoints.iterdir()] == ["step_5"]
        manifest = read_manifest(folder)
        assert manifest is not None
        seen.add(bool(manifest.packed))
        listed = {*manifest.files, MANIFEST}
        assert {p.name for p in folder.iterdir()} == listed, "nothing is left of the other form"

    def run(checkpoints: Path) -> None:
        act(checkpoints / "step_5", threads=1)

    assert kill_at_each_step(tmp_path, prepare, run, check) > 15
    assert seen == {False, True}


def readable(folder: Path, originals: dict[str, str]) -> bool:
    """Whether the folder is sound, and what comes out of it is what went in."""
    manifest = read_manifest(folder)
    assert manifest is not None
    assert verify_folder(folder) == []
    for name, entry in manifest.packed.items():
        assert entry[1] == originals[name]
        unpack_file(folder / (name + PACKED), None, entry, threads=1)
    plain = {n: d for n, (_, d) in manifest.files.items() if not n.endswith(PACKED)}
    assert all(originals[name] == digest for name, digest in plain.items())
    return {*plain, *manifest.packed} == set(originals) - {MANIFEST}


def test_packing_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    def prepare(checkpoints: Path) -> None:
        save(checkpoints, 5, count=300)

    def check(checkpoints: Path) -> None:
        (info,) = list_checkpoints(checkpoints)
        if not info.packed:
            pack_checkpoint(info.path, threads=1)
        assert verify_folder(info.path) == []

    kill_at_each_step(tmp_path, prepare, lambda c: pack_checkpoint(c / "step_5", threads=1), check)


# -- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_every_flip_and_truncation_of_any_file_is_found(tmp_path: Path, packed: bool) -> None:
    folder = save(tmp_path, 5, count=500)
    if packed:
        pack_checkpoint(folder)
    chance = random.Random(11)
    paths = sorted(folder.iterdir())
    for path in paths:
        data = path.read_bytes()
        with path.open("r+b", buffering=0) as file:
            for bit in chance.choices(range(8 * len(data)), k=1000 // len(paths) + 1):
                flip(file, data, bit)
                assert verify_folder(folder), (path.name, bit)
                flip(file, data, bit, back=True)
        for size in chance.choices(range(len(data)), k=100 // len(paths) + 1):
            path.write_bytes(data[:size])
            assert verify_folder(folder), (path.name, size)
        path.write_bytes(data)
    assert verify_folder(folder) == []


def flip(file: Any, data: bytes, bit: int, *, back: bool = False) -> None:
    file.seek(bit // 8)
    file.write(bytes([data[bit // 8] ^ (0 if back else 1 << bit % 8)]))
