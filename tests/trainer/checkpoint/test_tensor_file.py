"""Our writer of safetensors against the library's."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from trainer.checkpoint.tensor_file import write_tensors

DTYPES = [
    torch.int64,
    torch.float64,
    torch.float32,
    torch.int32,
    torch.bfloat16,
    torch.float16,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]
tensors = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
        lambda name: name != "__metadata__"
    ),
    st.tuples(
        st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=3), st.integers(0, 2**31)
    ),
    max_size=8,
)


@settings(max_examples=100, deadline=None)
@given(tensors, st.booleans())
def test_the_same_bytes_as_the_library(
    tmp_path_factory: pytest.TempPathFactory,
    shapes: dict[str, tuple[torch.dtype, list[int], int]],
    named: bool,
) -> None:
    folder = tmp_path_factory.mktemp("files")
    made = {}
    for name, (dtype, shape, seed) in shapes.items():
        generator = torch.Generator().manual_seed(seed)
        made[name] = torch.randint(0, 100, shape, generator=generator).to(dtype)
    metadata = {"format": "pt"} if named else None
    save_file(made, folder / "theirs", metadata=metadata)
    write_tensors(folder / "ours", made, metadata)
    assert (folder / "ours").read_bytes() == (folder / "theirs").read_bytes()


def test_strided_tensors_and_large_ones(tmp_path: Path) -> None:
    made = {"t": torch.arange(12.0).reshape(3, 4).T, "large": torch.randn(5 << 20)}
    write_tensors(tmp_path / "file", made)
    loaded = load_file(tmp_path / "file")
    assert all(torch.equal(loaded[name], made[name]) for name in made)


def test_no_space_is_known_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def never(fd: int, data: object) -> int:
        raise AssertionError("written without a reservation")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(os, "write", never)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(tmp_path / "file", {"x": torch.zeros(10)})


def test_a_filesystem_that_cannot_reserve_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unknown)
    write_tensors(tmp_path / "file", {"x": torch.ones(10)})
    assert load_file(tmp_path / "file")["x"].sum() == 10
