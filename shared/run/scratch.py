"""Large arrays outside the process's memory, mapped from unnamed temporary files.

The kernel can write their pages out and reclaim the memory; `release` does so at once. If there is
no disk space for the file, they are ordinary arrays.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE = 4 << 20  # bytes from which an array is mapped


def empty(size: int, dtype: Any) -> NDArray[Any]:
    """An uninitialized array of `size` numbers. Its disk space is reserved."""
    array = np.empty(0, dtype)
    count = size * array.itemsize
    if count >= LARGE and hasattr(mmap, "MADV_DONTNEED"):
        with contextlib.suppress(OSError, ValueError), tempfile.TemporaryFile() as file:
            # Without this, a full disk would kill the process with SIGBUS.
            os.posix_fallocate(file.fileno(), 0, count)
            return np.frombuffer(mmap.mmap(file.fileno(), count), dtype)
    return np.empty(size, dtype)


def stored(array: NDArray[Any]) -> NDArray[Any]:
    """A copy of `array`, mapped if it is large; a small one itself."""
    if array.nbytes < LARGE:
        return array
    copy = empty(len(array), array.dtype)
    copy[:] = array
    return copy


def release(*arrays: NDArray[Any]) -> None:
    """Release the memory of mapped arrays; their numbers are read from disk when needed."""
    for array in arrays:
        mapped = array.base.obj if isinstance(array.base, memoryview) else array.base
        if isinstance(mapped, mmap.mmap):
            with contextlib.suppress(OSError, ValueError):
                mapped.madvise(mmap.MADV_DONTNEED)
