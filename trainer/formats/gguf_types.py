"""The types a tensor can have in GGUF: their names, their blocks, and arrays in them.

The `gguf` package writes the plain types; the K and IQ types are llama.cpp's own work and come
from `llama_model_quantize`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from shared.errors import UserError
from shared.text import nearest, one_line

FLOATS = ("F32", "F16", "BF16")
TERNARY = ("TQ1_0", "TQ2_0")
WRITTEN_HERE = (*FLOATS, "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "MXFP4", *TERNARY)
#: The mixtures that llama.cpp writes; each combines several types.
BY_LLAMA_CPP = (
    *("Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"),
    *("IQ4_XS", "IQ4_NL"),
)
#: Other names of a type, and a note for the person who uses one.
_ALIASES = {
    "Q1_58": ("TQ2_0", "q1_58 is written as TQ2_0, llama.cpp's type for ternary weights."),
    "TERNARY": ("TQ2_0", "ternary is written as TQ2_0."),
    "FP32": ("F32", ""),
    "FP16": ("F16", ""),
    "Q5_K": ("Q5_K_M", ""),
    "Q4_K": ("Q4_K_M", ""),
    "Q3_K": ("Q3_K_M", ""),
}
_MOST_IN_FLOAT16 = 65504.0


@dataclass(frozen=True)
class ChosenType:
    """The type a person asked for, and a note about the name they used."""

    name: str
    note: str = ""

    @property
    def by_llama_cpp(self) -> bool:
        """Whether only llama.cpp can write it."""
        return self.name in BY_LLAMA_CPP


def find_type(name: str) -> ChosenType:
    """The type called `name`, in any case. Raises UserError naming the known ones."""
    wanted = name.strip().upper().replace("-", "_")
    target, note = _ALIASES.get(wanted, (wanted, ""))
    if target in WRITTEN_HERE or target in BY_LLAMA_CPP:
        return ChosenType(target, note)
    known = (*WRITTEN_HERE, *BY_LLAMA_CPP)
    raise UserError(
        f"Unknown type {one_line(name, 40)!r}{nearest(wanted, (*known, *_ALIASES))}; "
        f"the types are {', '.join(WRITTEN_HERE)}, and with llama.cpp {', '.join(BY_LLAMA_CPP)}."
    )


def block_size(kind: str) -> int:
    """Numbers per block. A row must be a whole number of blocks."""
    return GGML_QUANT_SIZES[GGMLQuantizationType[kind]][0]


def stored_bytes(kind: str, shape: Sequence[int]) -> int:
    """Bytes of an array of `shape`. A row must be a whole number of blocks."""
    numbers, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return math.prod(shape) // numbers * size


def file_type(kind: str) -> int:
    """The number for `general.file_type`: the type of most tensors."""
    if kind == "F32":
        return int(LlamaFileType.ALL_F32)
    name = "MXFP4_MOE" if kind == "MXFP4" else kind
    return int(LlamaFileType[f"MOSTLY_{name}"])


def kind_of_file_type(number: int) -> str | None:
    """The type by its number in `general.file_type`; None for an unknown number."""
    for known in LlamaFileType:
        if known == number:
            return known.name.removeprefix("ALL_").removeprefix("MOSTLY_").removesuffix("_MOE")
    return None


def encode(weight: NDArray[np.float32], kind: str) -> NDArray[Any]:
    """`weight` encoded in the type. A row must be a whole number of blocks.

    Raises UserError for numbers the type cannot hold.
    """
    # min and max keep NaN, and need no copy of a large matrix.
    most = max(float(weight.max(initial=0.0)), -float(weight.min(initial=0.0)))
    if not math.isfinite(most):
        raise UserError("it has numbers that are not finite; use a checkpoint from before")
    if kind not in ("F32", "BF16") and most > _MOST_IN_FLOAT16:
        raise UserError(f"it has {most:.4g}, beyond {kind}'s range; use --quant BF16 or F32")
    return quantize(np.ascontiguousarray(weight), GGMLQuantizationType[kind])


def encode_ternary(weight: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Ternary weights (-s, 0 or s in each block of 32) as Q4_0, without loss.

    The usual Q4_0 scales its values -8 to 7 by the largest weight, and misses the other sign by an
    eighth.
    """
    blocks = weight.reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True)
    trits = np.rint(blocks / np.where(scale == 0, 1, scale)).astype(np.int8)
    codes = (trits + 8).astype(np.uint8)
    packed = codes[:, :16] | codes[:, 16:] << 4
    stored = np.concatenate((scale.astype(np.float16).view(np.uint8), packed), axis=1)
    return stored.reshape(*weight.shape[:-1], -1)


def decode(stored: NDArray[Any], kind: str) -> NDArray[np.float32]:
    """The numbers of an encoded array."""
    return dequantize(stored, GGMLQuantizationType[kind])


def encoding_error(weight: NDArray[np.float32], kind: str, *, ternary: bool = False) -> float:
    """The root mean square error of encoding, relative to that of the weights.

    Exactly 0 if nothing is lost, as for ternary weights in a ternary type if the scale fits a
    float16. `ternary` means encoding by `encode_ternary`.
    """
    stored = encode_ternary(weight) if ternary else encode(weight, kind)
    lost = decode(stored, kind) - weight
    if not lost.any():
        return 0.0
    return math.sqrt(float(np.square(lost, dtype=np.float64).mean())) / math.sqrt(
        float(np.square(weight, dtype=np.float64).mean())
    )
