"""The format of a packed file: the bytes of the numbers sorted by place, then zstd.

In a float of trained weights the sign, exponent and mantissa bytes have nothing in common: zstd
finds little in them as they lie. Taken apart (all first bytes, all second bytes, … as ZipNN does,
Hershcovitch et al. 2024) the exponents shrink to a third, which is all there is to win. The
figures are in docs/benchmarks.md.

A packed file is a header of 56 bytes, all little-endian: `TMPACK`, version (u16), bytes per number
(u8), three zeros, bytes per block (u32), bytes of the original (u64), its SHA-256 (32 bytes). Then
for each block of the original its packed length (u32) and one zstd frame. In a block the numbers'
first bytes come first, then their second bytes, and so on; a remainder stays behind as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import orjson

from shared.checkpoints.manifest import Advance, FileEntry, unseen
from shared.errors import RunError
from shared.text import one_line

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = 1  # byte planes hold no repetitions: higher levels look for them in vain
LEVELS = range(1, 20)
BLOCK = 1 << 20
_VERSION = 1
_MAGIC = b"TMPACK"
_HEADER = struct.Struct("<6sHB3xIQ32s")
_LENGTH = struct.Struct("<I")
_MAX_BLOCK = 1 << 26
_MAX_SAFETENSORS_HEADER = 100_000_000
_SIZES = {
    8: ("F64", "I64", "U64"),
    4: ("F32", "I32", "U32"),
    2: ("F16", "BF16", "I16", "U16"),
}  # fmt: skip
_BYTES_OF = {name: size for size, names in _SIZES.items() for name in names}
TENSORS = ".safetensors"

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def pack_file(
    source: Path,
    target: Path,
    *,
    level: int = LEVEL,
    threads: int | None = None,
    advance: Advance = unseen,
    block: int = BLOCK,
    element: int | None = None,
) -> FileEntry:
    """Pack `source` into `target`, durably; returns bytes and SHA-256 of the original.

    `block` is in bytes, `element` the bytes of a number, by default those of `element_size`. Memory
    is a few blocks per thread, however large the file. Raises OSError.
    """
    element = element or element_size(source)
    digest, size = hashlib.sha256(), 0

    def blocks(file: IO[bytes]) -> Iterator[bytes]:
        nonlocal size
        while data := file.read(block):
            digest.update(data)
            size += len(data)
            yield data

    def packed(data: bytes) -> tuple[int, bytes]:
        return len(data), zstd.compress(_apart(data, element), level)

    with source.open("rb") as file, target.open("wb") as out:
        out.write(bytes(_HEADER.size))
        for count, frame in _in_order(packed, blocks(file), threads):
            out.write(_LENGTH.pack(len(frame)))
            out.write(frame)
            advance(count)
        out.seek(0)
        out.write(_HEADER.pack(_MAGIC, _VERSION, element, block, size, digest.digest()))
        out.flush()
        os.fsync(out.fileno())
    return size, digest.hexdigest()


def unpack_file(
    source: Path,
    target: Path | None,
    expected: FileEntry,
    *,
    threads: int | None = None,
    advance: Advance = unseen,
) -> None:
    """Write the original of the packed file `source` to `target`, or only check it with None.

    Raises RunError when what comes out is not what `expected` says, OSError from the disk.
    """
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(source.open("rb"))
        element, block, size, told = _read_header(source, file)
        if (size, told) != expected:
            raise _damaged(source, "its header does not match the manifest")
        out = stack.enter_context(target.open("wb")) if target else None

        def unpacked(task: tuple[int, bytes]) -> bytes:
            wanted, frame = task
            return _together(_decompress(source, frame, wanted), element)

        frames = _frames(source, file, block, size)
        for data in _in_order(unpacked, frames, threads):
            digest.update(data)
            if out:
                out.write(data)
            advance(len(data))
        if file.read(1):
            raise _damaged(source, "it has bytes after its end")
        if digest.hexdigest() != expected[1]:
            raise _damaged(source, "the decompressed data does not match its checksum")


def _read_header(source: Path, file: IO[bytes]) -> tuple[int, int, int, str]:
    """Bytes per number, per block and of the original, and its SHA-256."""
    data = file.read(_HEADER.size)
    if len(data) != _HEADER.size:
        raise _damaged(source, "its header is cut off")
    magic, version, element, block, size, digest = _HEADER.unpack(data)
    if magic != _MAGIC:
        raise _damaged(source, "it is not a compressed file")
    if version != _VERSION:
        raise RunError(
            f"{one_line(source)} is compressed in version {version} of the format; this program "
            f"reads version {_VERSION}. Use a newer one."
        )
    if element not in (1, 2, 4, 8) or not 0 < block <= _MAX_BLOCK:
        raise _damaged(source, "its header is invalid")
    return element, block, size, digest.hex()


def _frames(source: Path, file: IO[bytes], block: int, size: int) -> Iterator[tuple[int, bytes]]:
    """The size of each block when unpacked, and its frame."""
    for start in range(0, size, block):
        head = file.read(_LENGTH.size)
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else -1
        # zstd grows what it cannot shrink by less than this: no length makes us read a gigabyte.
        frame = file.read(length) if 0 <= length <= 2 * block + 1024 else b""
        if len(frame) != length:
            raise _damaged(source, "a block is cut off")
        yield min(block, size - start), frame


def _decompress(source: Path, frame: bytes, wanted: int) -> bytes:
    decompressor = zstd.ZstdDecompressor()
    try:
        data = decompressor.decompress(frame, max_length=wanted + 1)
    except zstd.ZstdError as error:
        raise _damaged(source, str(error)) from error
    if len(data) != wanted or not decompressor.eof or decompressor.unused_data:
        raise _damaged(source, "a block has the wrong size")
    return bytes(data)


def _damaged(source: Path, what: str) -> RunError:
    return RunError(f"{one_line(source)} is damaged: {what}; use an older checkpoint.")


def element_size(path: Path) -> int:
    """Bytes per number of most of a safetensors file; 1 for any other file."""
    if not path.name.endswith(TENSORS):
        return 1
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_MAX_SAFETENSORS_HEADER, path.stat().st_size):
            return 1
        try:
            header = orjson.loads(file.read(length))
            count: dict[int, int] = {1: 0}
            for name, entry in header.items():
                if name != "__metadata__":
                    begin, end = entry["data_offsets"]
                    size = _BYTES_OF.get(entry["dtype"], 1)
                    count[size] = count.get(size, 0) + end - begin
        except (ValueError, KeyError, TypeError, AttributeError):
            return 1
    return max(count, key=lambda size: count[size])


def _apart(data: bytes, element: int) -> bytes:
    whole = len(data) // element * element
    numbers = np.frombuffer(data, np.uint8, whole).reshape(-1, element)
    return numbers.T.tobytes() + data[whole:]


def _together(data: bytes, element: int) -> bytes:
    whole = len(data) // element * element
    planes = np.frombuffer(data, np.uint8, whole).reshape(element, -1)
    return planes.T.tobytes() + data[whole:]


def _in_order(
    function: Callable[[_In], _Out], items: Iterable[_In], threads: int | None
) -> Iterator[_Out]:
    """The results in the order of the items, computed by threads; never many at once in memory."""
    workers = threads or available_cores()
    with ThreadPoolExecutor(workers, thread_name_prefix="pack") as pool:
        waiting: deque[Future[_Out]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def available_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1
