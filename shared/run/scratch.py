"""Large arrays that need not stay in memory: they are mapped from temporary files without a name.

The kernel may write their pages out and take the memory back, and `release` gives back at once
what was not touched lately. Where there is no room for such a file, they are ordinary arrays.
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
    """An array of `size` numbers of any value. Its disk space is claimed, so it can be filled."""
    array = np.empty(0, dtype)
    count = size * array.itemsize
    if count >= LARGE and hasattr(mmap, "MADV_DONTNEED"):
        with contextlib.suppress(OSError, ValueError), tempfile.TemporaryFile() as file:
            # Without the claim a full disk would show itself as a signal that kills us.
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
    """Let the memory of mapped arrays go; their numbers stay and are read again at need."""
    for array in arrays:
        mapped = array.base.obj if isinstance(array.base, memoryview) else array.base
        if isinstance(mapped, mmap.mmap):
            with contextlib.suppress(OSError, ValueError):
                mapped.madvise(mmap.MADV_DONTNEED)
