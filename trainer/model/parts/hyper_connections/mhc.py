"""The `.mhc` file: the scalars of static hyper-connections, sub-layer by sub-layer.

All little-endian, without padding:

    0   u32  magic 0x6D484321
    4   u32  version, 2 (1 has the same layout and is read too)
    8   u32  sub-layers: attention then feed-forward, block by block
    12  u32  streams n, 2 or 4
    16  f32  9 (n = 2) or 40 (n = 4) per sub-layer: alpha_logit or the 24 res_logits, then
             pre_logits, pre_bias, post_logits, post_bias of n each

The layout is that of the nanochat guide's exporter. `streams.py` says what the scalars mean; the
matrices are computed from them in fp64 to check a file.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from shared.errors import UserError
from shared.files import open_file, replace_file
from shared.text import format_bytes, one_line
from trainer.model.parts.hyper_connections.streams import (
    MIXING,
    SCALARS,
    input_weights,
    mixing_matrix,
    output_shares,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = 0x6D484321
VERSION = 2
READABLE = (1, 2)
MAX_LAYERS = 10_000
TOLERANCE = 1e-6  # of sums that are 1 in exact arithmetic

_HEADER = struct.Struct("<4I")
_MODULES = ("attn_hyper", "mlp_hyper")


@dataclass(frozen=True)
class MhcLayer:
    """The scalars of one sub-layer, values of fp32. `mixing` is (alpha_logit,) or 24 res_logits."""

    mixing: tuple[float, ...]
    pre_logits: tuple[float, ...]
    pre_bias: tuple[float, ...]
    post_logits: tuple[float, ...]
    post_bias: tuple[float, ...]

    @property
    def streams(self) -> int:
        """Residual streams, n."""
        return len(self.pre_logits)

    @property
    def scalars(self) -> tuple[float, ...]:
        """All scalars in the file's order."""
        return (
            *self.mixing,
            *self.pre_logits,
            *self.pre_bias,
            *self.post_logits,
            *self.post_bias,
        )

    @property
    def h_pre(self) -> NDArray[np.float64]:
        """The weight of each stream in the sub-layer's input, (n,) in (0, 1)."""
        return input_weights(_exact(self.pre_logits), _exact(self.pre_bias)).numpy()

    @property
    def h_post(self) -> NDArray[np.float64]:
        """The share of the sub-layer's output added to each stream, (n,) in (0, 2)."""
        return output_shares(_exact(self.post_logits), _exact(self.post_bias)).numpy()

    @property
    def h_res(self) -> NDArray[np.float64]:
        """The mixing matrix, (n, n), doubly stochastic."""
        return mixing_matrix(self.streams, _exact(self.mixing)).numpy()


def _exact(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Reading


def read_mhc(path: Path) -> list[MhcLayer]:
    """The sub-layers of a `.mhc` file. Raises UserError for an invalid file."""
    data = _read(path)
    problems = validate(data)
    if problems:
        raise UserError(f"{one_line(path)} is not a valid .mhc file: {problems[0]}")
    return _layers(data)


def validate(data: bytes) -> list[str]:
    """What is wrong with the bytes of a `.mhc` file, one sentence each; empty if valid."""
    problems = _header_problems(data)
    if problems:
        return problems
    layers = _layers(data)
    bad = [i for i, layer in enumerate(layers) if not all(map(math.isfinite, layer.scalars))]
    if bad:
        return [f"Sub-layer {i} has a non-finite scalar." for i in bad]
    return matrix_problems([layer.h_res for layer in layers])


def matrix_problems(matrices: Sequence[NDArray[np.float64]]) -> list[str]:
    """Which H_res are not doubly stochastic, and whether their product amplifies the streams."""
    problems = []
    for i, matrix in enumerate(matrices):
        sums = np.concatenate((matrix.sum(axis=0), matrix.sum(axis=1)))
        worst = sums[np.abs(sums - 1).argmax()]
        if matrix.min() < 0 or abs(worst - 1) > TOLERANCE:
            problems.append(
                f"H_res of sub-layer {i} is not doubly stochastic: it has a row or column of sum "
                f"{worst:.6g} and a smallest entry of {matrix.min():.6g}."
            )
    composite = composite_gain(matrices)
    if composite > 1 + TOLERANCE:
        problems.append(f"The product of all H_res amplifies the streams {composite:.6g} times.")
    return problems


def composite_gain(matrices: Sequence[NDArray[np.float64]]) -> float:
    """The largest absolute row or column sum of the product of all H_res."""
    product = np.eye(len(matrices[0]))
    for matrix in matrices:
        product = matrix @ product
    sums = np.abs(product)
    return float(max(sums.sum(axis=0).max(), sums.sum(axis=1).max()))


def _read(path: Path) -> bytes:
    largest = _HEADER.size + MAX_LAYERS * 4 * _scalars(4)
    try:
        with open_file(path) as file:
            return file.read(largest + 1)
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"Cannot read {one_line(path)}: {one_line(problem)}.") from error


def _scalars(streams: int) -> int:
    return MIXING[streams][1] + 4 * streams


def _header_problems(data: bytes) -> list[str]:
    if len(data) < _HEADER.size:
        return [f"It has {len(data)} bytes; the header alone has {_HEADER.size}."]
    magic, version, count, streams = _HEADER.unpack_from(data)
    if magic != MAGIC:
        return [f"It begins with {data[:4].hex(' ')} instead of 21 43 48 6d."]
    problems = []
    if version not in READABLE:
        problems.append(f"Its version is {version}; versions 1 and 2 can be read.")
    if not 1 <= count <= MAX_LAYERS:
        problems.append(f"It has {count} sub-layers; 1 to {MAX_LAYERS} are possible.")
    elif count % 2:
        problems.append(f"It has {count} sub-layers; the number must be even, two per block.")
    if streams not in MIXING:
        problems.append(f"It has {streams} streams; 2 or 4 are possible.")
    if problems:
        return problems
    size = _HEADER.size + count * 4 * _scalars(streams)
    if len(data) != size:
        has = f"more than {size}" if len(data) > size else str(len(data))
        return [f"It has {has} bytes; {count} sub-layers of {streams} streams take {size}."]
    return []


def _layers(data: bytes) -> list[MhcLayer]:
    _, _, _, n = _HEADER.unpack_from(data)
    record = struct.Struct(f"<{_scalars(n)}f")
    ends = list(itertools.accumulate((MIXING[n][1], n, n, n, n), initial=0))
    return [
        MhcLayer(*(values[start:end] for start, end in itertools.pairwise(ends)))
        for values in record.iter_unpack(data[_HEADER.size :])
    ]


# Writing


def mhc_bytes(layers: Sequence[MhcLayer]) -> bytes:
    """The file of these sub-layers, in version 2. Raises UserError if it would be invalid."""
    n = layers[0].streams if layers else 0
    scalars = [value for layer in layers for value in layer.scalars]
    try:
        data = _HEADER.pack(MAGIC, VERSION, len(layers), n)
        data += struct.pack(f"<{len(scalars)}f", *scalars)
    except OverflowError as error:
        raise UserError(
            "The .mhc file cannot be written: a scalar is too large for fp32."
        ) from error
    problems = validate(data)
    if problems:
        raise UserError(f"The .mhc file cannot be written: {problems[0]}")
    return data


def write_mhc(path: Path, layers: Sequence[MhcLayer]) -> int:
    """Write a `.mhc` file atomically; returns its size in bytes. Raises UserError, OSError."""
    data = mhc_bytes(layers)
    replace_file(path, data)
    return len(data)


# To and from a model


def mhc_of_weights(weights: Mapping[str, Tensor], streams: int) -> list[MhcLayer]:
    """The sub-layers of a state dict, in the file's order.

    Raises UserError for a number of streams that the format does not have.
    """
    if streams not in MIXING:
        kind = "one stream" if streams == 1 else "no hyper-connections"
        raise UserError(
            f"A .mhc file holds hyper-connections with 2 or 4 streams, but this model has {kind}"
            + ("; its connections fold into the weights of a plain model." if streams else ".")
        )
    return [
        MhcLayer(*(tuple(weights[name].float().tolist()) for name in names))
        for names in _names(streams, _blocks(weights))
    ]


def mhc_weights(layers: Sequence[MhcLayer]) -> dict[str, Tensor]:
    """The sub-layers as entries of a state dict, fp32."""
    weights = {}
    for names, layer in zip(_names(layers[0].streams, len(layers) // 2), layers, strict=True):
        values = (layer.mixing, *(getattr(layer, scalar) for scalar in SCALARS))
        for name, value in zip(names, values, strict=True):
            weights[name] = torch.tensor(value, dtype=torch.float32)
    return weights


def _blocks(weights: Mapping[str, Tensor]) -> int:
    return sum(name.endswith(f".{_MODULES[0]}.pre_bias") for name in weights)


def _names(streams: int, blocks: int) -> list[list[str]]:
    """The parameters of every sub-layer, in the order of an `MhcLayer`'s fields."""
    mixing, _ = MIXING[streams]
    return [
        [f"model.layers.{block}.{module}.{scalar}" for scalar in (mixing, *SCALARS)]
        for block in range(blocks)
        for module in _MODULES
    ]


# Description


def describe(path: Path) -> str:
    """One line about the contents of a `.mhc` file. Raises UserError for an invalid file."""
    layers = read_mhc(path)
    n = layers[0].streams
    matrices = [layer.h_res for layer in layers]
    kept = np.array([matrix.diagonal() for matrix in matrices])
    pre = np.array([layer.h_pre for layer in layers])
    post = np.array([layer.h_post for layer in layers])
    text = (
        f"{len(layers)} sub-layers ({len(layers) // 2} blocks) of {n} streams, "
        f"{format_bytes(path.stat().st_size)}; a stream keeps {_range(kept)} of itself, "
        f"h_pre {_range(pre)}, h_post {_range(post)}, "
        f"composite gain {composite_gain(matrices):.6f}"
    )
    if (np.ptp(post, axis=1) == 0).all():
        text += "; the streams stay equal, so the model is one scaled residual"
    return text


def _range(values: NDArray[np.float64]) -> str:
    low, high = values.min(), values.max()
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
