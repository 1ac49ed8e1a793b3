"""A table of an export's tensors, with one row for the same tensor of all layers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from shared.text import format_bytes, format_count
from trainer.formats.gguf_names import in_any_layer


@dataclass(frozen=True)
class WrittenTensor:
    """A tensor of a file: its shape (rows first), type and size in bytes."""

    name: str
    shape: tuple[int, ...]
    kind: str
    bytes: int


def tensor_rows(tensors: Iterable[WrittenTensor]) -> list[list[str]]:
    """A heading, a row per kind of tensor, and the total."""
    tensors = list(tensors)
    groups: dict[tuple[str, tuple[int, ...], str], list[WrittenTensor]] = {}
    for tensor in tensors:
        name = in_any_layer(tensor.name)
        groups.setdefault((name, tensor.shape, tensor.kind), []).append(tensor)
    rows = [["tensor", "count", "shape", "type", "bytes"]]
    for (name, shape, kind), alike in groups.items():
        size = format_bytes(sum(tensor.bytes for tensor in alike))
        rows.append([name, str(len(alike)), " x ".join(map(str, shape)), kind, size])
    numbers = sum(math.prod(tensor.shape) for tensor in tensors)
    total = format_bytes(sum(tensor.bytes for tensor in tensors))
    rows.append(["total", str(len(tensors)), format_count(numbers), "", total])
    return rows


def compression(tensors: Iterable[WrittenTensor]) -> str:
    """One line: the size compared with F16."""
    tensors = list(tensors)
    size = sum(tensor.bytes for tensor in tensors)
    half = sum(2 * math.prod(tensor.shape) for tensor in tensors)
    bits = 8 * size / sum(math.prod(tensor.shape) for tensor in tensors)
    if abs(size - half) < half / 100:
        return f"as large as in F16, {bits:.2f} bits per weight"
    return (
        f"{half / size:.2f}x smaller than in F16 ({format_bytes(half)}), {bits:.2f} bits per weight"
        if size <= half
        else f"{size / half:.2f}x larger than in F16 ({format_bytes(half)})"
    )
