"""Reading safetensors files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from shared.errors import RunError, UserError
from shared.text import one_line

#: Types of safetensors that are plain numbers.
_FLOATS = ("F64", "F32", "F16", "BF16")


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises RunError if it is not one."""
    with open_weights(path, device) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@dataclass(frozen=True)
class Saved:
    """A tensor in an opened file, which is read where it is indexed."""

    file: Any
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """From the file's header."""
        return tuple(self.file.get_slice(self.name).get_shape())

    def __getitem__(self, rows: Any) -> Tensor:
        """Some rows, or with () all of a scalar."""
        if rows in ((), slice(None)):
            found: Tensor = self.file.get_tensor(self.name)
        elif rows.start == rows.stop:  # not a stretch that the library reads
            found = self.file.get_slice(self.name)[:1][:0]
        else:
            found = self.file.get_slice(self.name)[rows]
        return found


def saved_tensors(file: Any) -> dict[str, Saved]:
    """All tensors of an opened file by name."""
    return {name: Saved(file, name) for name in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def open_weights(path: Path, device: torch.device | str = "cpu") -> Iterator[Any]:
    """The file, opened by the library. Raises RunError if it is not one."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise RunError(f"{one_line(path)} cannot be read as safetensors: {error}.") from error


def float_shape(file: Any, name: str, folder: str) -> tuple[int, ...]:
    """The shape of a tensor of an opened file, from its header. Raises UserError unless its numbers
    are floating-point.
    """
    entry = file.get_slice(name)
    if entry.get_dtype() not in _FLOATS:
        raise UserError(
            f"{one_line(name, 80)} of {folder} has the type {entry.get_dtype()}; weights must be "
            "floating-point."
        )
    return tuple(entry.get_shape())
