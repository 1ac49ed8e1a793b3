"""What a safetensors file holds, from its header alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import orjson

from shared.errors import RunError
from shared.text import one_line

_MAX_HEADER = 100_000_000


@dataclass(frozen=True)
class Weights:
    """`parameters` numbers in all, most of them of type `dtype` (`F32`, `BF16`, …)."""

    parameters: int
    dtype: str


def read_weights(path: Path) -> Weights:
    """Look at a safetensors file. Raises RunError when it is none, or is cut off."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER, size):
                raise ValueError("its header is invalid")
            header = orjson.loads(file.read(length))
        counts: dict[str, int] = {}
        end = 0
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            dtype, shape = str(entry["dtype"]), entry["shape"]
            end = max(end, int(entry["data_offsets"][1]))
            counts[dtype] = counts.get(dtype, 0) + math.prod(int(side) for side in shape)
        if 8 + length + end != size:
            raise ValueError(f"it has {size} bytes instead of {8 + length + end}")
        if not counts:
            raise ValueError("it holds no tensor")
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise RunError(
            f"{one_line(path)} cannot be read as safetensors: {one_line(error)}; nothing was sent."
        ) from error
    return Weights(sum(counts.values()), max(counts, key=lambda dtype: counts[dtype]))
