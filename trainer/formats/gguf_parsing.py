"""The GGUF container: keys and tensors of an untrusted file, checked before use.

The reader of the `gguf` package loops as often as a file says and slices past its end. Here every
count and size is checked against the file's size before anything is read or allocated.

    magic "GGUF", u32 version, u64 tensors, u64 keys
    key:     string name, u32 type, value
             (a string is u64 length and UTF-8; an array u32 type, u64 count and its values)
    tensor:  string name, u32 dimensions, u64 each (rows last), u32 type, u64 offset into the data
    data:    from the next multiple of general.alignment, each tensor at such a multiple
"""

from __future__ import annotations

import functools
import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from shared.errors import RunError, UserError
from shared.files import open_file
from shared.text import one_line

Value = bool | int | float | str | NDArray[Any] | list[str]

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q"}
_SCALARS |= {11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MAX_NAME = 1 << 16  # bytes of a name
_MAX_TEXTS = 1 << 22  # in all lists; a vocabulary and its merges have far fewer
_MAX_TEXT = 64 << 20  # bytes of a text or a list of numbers; chat templates have thousands
_MAX_KEYS = 1 << 16
_MAX_TENSORS = 1 << 20
_MAX_DIMENSIONS = 4
_MAX_ALIGNMENT = 1 << 20
_GUIDE_Q1_58 = 100


@dataclass(frozen=True)
class TensorInfo:
    """A tensor in the header: `shape` rows first, `start` its first byte in the file."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    start: int
    bytes: int


class GGUFFile:
    """An open file: `values` by key, `tensors` by name."""

    def __init__(
        self, path: Path, data: mmap.mmap, values: dict[str, Value], tensors: dict[str, TensorInfo]
    ) -> None:
        self.path = path
        self.values = values
        self.tensors = tensors
        self._data = data

    def text(self, key: str) -> str | None:
        """The value of a key that holds a string; None if there is none or it has another type."""
        value = self.values.get(key)
        return value if isinstance(value, str) else None

    def read(self, name: str) -> NDArray[np.float32]:
        """The numbers of a tensor in fp32, rows first."""
        tensor = self.tensors[name]
        stored = np.frombuffer(self._data, np.uint8, tensor.bytes, tensor.start)
        with np.errstate(all="ignore"):  # a scale may be infinite
            numbers = dequantize(stored.reshape(*tensor.shape[:-1], -1), tensor.kind)
        assert numbers.shape == tensor.shape
        return numbers


def open_gguf(path: Path) -> GGUFFile:
    """Read all but the tensors' data.

    Raises UserError for a file that is not a supported GGUF, RunError for a damaged one.
    """
    try:
        with open_file(path) as file:
            begin = file.read(8)
            _check_begin(path, begin)
            # Copy on write, because torch warns about read-only arrays.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read {one_line(path)}: {one_line(error)}.") from error
    return _Header(path, data).parse()


def _check_begin(path: Path, begin: bytes) -> None:
    shown = one_line(path)
    if begin[:4] == b"GUGF":
        raise UserError(
            f"{shown} begins with GUGF: the nanochat guide's exporter wrote it with a magic that "
            "nobody reads; export its checkpoint again with this program."
        )
    if begin[:4] != b"GGUF" or len(begin) < 8:
        raise UserError(f"{shown} is not a GGUF file: it does not begin with GGUF.")
    version = int.from_bytes(begin[4:], "little")
    if version not in _VERSIONS:
        swapped = int.from_bytes(begin[4:], "big") in _VERSIONS
        kind = "big-endian" if swapped else f"GGUF of version {version}"
        raise UserError(f"{shown} is {kind}; only versions 2 and 3, little-endian, can be read.")


class _Header:
    """A cursor over the header."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._at = 8
        self._texts_left = _MAX_TEXTS

    def parse(self) -> GGUFFile:
        tensor_count, key_count = self._number("<Q"), self._number("<Q")
        if key_count > _MAX_KEYS or tensor_count > _MAX_TENSORS:
            raise self._damaged(f"says that it has {tensor_count} tensors and {key_count} keys")
        values: dict[str, Value] = {}
        for _ in range(key_count):
            key = self._text(_MAX_NAME)
            if key in values:
                raise self._damaged(f"has the key {one_line(key, 60)} twice")
            values[key] = self._value(self._number("<I"))
        alignment = values.get("general.alignment", 32)
        if (
            not isinstance(alignment, int)
            or isinstance(alignment, bool)
            or not 1 <= alignment <= _MAX_ALIGNMENT
            or alignment & (alignment - 1)
        ):
            raise self._damaged(f"has the alignment {one_line(alignment, 40)}")
        infos = [self._tensor() for _ in range(tensor_count)]
        start = -(-self._at // alignment) * alignment
        return GGUFFile(self._path, self._data, values, self._placed(infos, start, alignment))

    def _tensor(self) -> TensorInfo:
        name = self._text(_MAX_NAME)
        count = self._number("<I")
        if not 1 <= count <= _MAX_DIMENSIONS:
            raise self._damaged(f"gives the tensor {one_line(name, 60)} {count} dimensions")
        shape = tuple(self._number("<Q") for _ in range(count))[::-1]
        number, offset = self._number("<I"), self._number("<Q")
        kind = self._kind(number, name)
        block, size = GGML_QUANT_SIZES[kind]
        if min(shape) < 1 or shape[-1] % block:
            raise self._damaged(
                f"gives the tensor {one_line(name, 60)} the shape {_shown(shape)}, "
                f"which {kind.name} cannot have"
            )
        return TensorInfo(name, shape, kind, offset, math.prod(shape) // block * size)

    def _kind(self, number: int, name: str) -> GGMLQuantizationType:
        if number == _GUIDE_Q1_58:
            raise UserError(
                f"{one_line(self._path)} has weights of type 100, the nanochat guide's own Q1_58; "
                "export its checkpoint again, as TQ2_0."
            )
        known = [kind for kind in GGMLQuantizationType if kind == number]
        if not known or not _readable(known[0]):
            shown = known[0].name if known else f"number {number}"
            raise UserError(
                f"The tensor {one_line(name, 60)} of {one_line(self._path)} has the type {shown}, "
                "which is not read here."
            )
        return known[0]

    def _placed(self, infos: list[TensorInfo], start: int, alignment: int) -> dict[str, TensorInfo]:
        """The tensors with their offsets, checked to be inside the file and not to overlap."""
        tensors: dict[str, TensorInfo] = {}
        end = start
        for info in sorted(infos, key=lambda info: info.start):
            begin = start + info.start
            shown = f"the tensor {one_line(info.name, 60)}"
            if info.name in tensors:
                raise self._damaged(f"has {shown} twice")
            if begin < end or info.start % alignment:
                raise self._damaged(f"has {shown} at the wrong place, {begin}")
            end = begin + info.bytes
            if end > len(self._data):
                raise self._damaged(f"ends at byte {len(self._data)} and {shown} at {end}")
            tensors[info.name] = TensorInfo(info.name, info.shape, info.kind, begin, info.bytes)
        return tensors

    def _value(self, kind: int) -> Value:
        if kind == _STRING:
            return self._text(_MAX_TEXT)
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise self._damaged(f"has a value of the unknown type {kind}")
        return self._number(_SCALARS[kind])

    def _array(self) -> Value:
        kind, count = self._number("<I"), self._number("<Q")
        if kind == _STRING:
            self._texts_left -= count
            if self._texts_left < 0:
                raise self._damaged(f"has a list of {count} texts")
            return [self._text(_MAX_TEXT) for _ in range(count)]
        if kind not in _SCALARS:
            raise self._damaged(f"has a list of the unknown type {kind}")
        dtype = np.dtype(_SCALARS[kind])
        if count * dtype.itemsize > _MAX_TEXT:
            raise self._damaged(f"has a list of {count} numbers")
        return np.frombuffer(self._take(count * dtype.itemsize), dtype)

    def _text(self, limit: int) -> str:
        size = self._number("<Q")
        if size > limit:
            raise self._damaged(f"has a text of {size} bytes")
        return self._take(size).decode("utf-8", "replace")

    def _number(self, code: str) -> Any:
        return struct.unpack(code, self._take(struct.calcsize(code)))[0]

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise self._damaged("ends in the middle of its header")
        self._at += size
        return self._data[self._at - size : self._at]

    def _damaged(self, problem: str) -> RunError:
        return RunError(f"{one_line(self._path)} is damaged: it {problem}.")


@functools.cache
def _readable(kind: GGMLQuantizationType) -> bool:
    """Whether the `gguf` package can decode such blocks."""
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
