"""Writing safetensors files: reserves the space first, needs little memory, fsyncs.

`safetensors.torch.save_file` neither reserves space nor fsyncs, and it holds the interpreter's
lock, which would stop training meanwhile.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

#: The format's names of the types, in the library's order: widest first, so that every tensor is
#: aligned.
_NAMES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_RANK = {dtype: rank for rank, dtype in enumerate(_NAMES)}
_CHUNK = 16 << 20  # bytes per write
_CANNOT_RESERVE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write `tensors` as safetensors, with the same bytes as the library, and fsync.

    Raises OSError; without space for the whole file it raises before writing.
    """
    ordered = sorted(tensors.items(), key=lambda item: (_RANK[item[1].dtype], item[0]))
    header = _header(ordered, metadata)
    size = len(header) + sum(tensor.nbytes for _, tensor in ordered)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        _reserve(fd, size)
        _write_all(fd, header)
        for _, tensor in ordered:
            for chunk in _chunks(tensor):
                _write_all(fd, chunk)
        os.fsync(fd)
    finally:
        os.close(fd)


def _header(ordered: list[tuple[str, Tensor]], metadata: Mapping[str, str] | None) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, tensor in ordered:
        end = offset + tensor.nbytes
        entries[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust((len(text) + 7) // 8 * 8)
    return len(text).to_bytes(8, "little") + text


def _chunks(tensor: Tensor) -> Iterator[memoryview]:
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    data = memoryview(flat.numpy())  # type: ignore[arg-type]
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


def _write_all(fd: int, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def _reserve(fd: int, size: int) -> None:
    """Reserve `size` bytes on disk, if the filesystem can."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise
