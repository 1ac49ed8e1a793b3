"""What is written in which type, and what is refused; decided before the first byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import UserError
from trainer.config.schema import ModelConfig
from trainer.formats.gguf_names import Architecture, GGUFTensor, architecture, gguf_tensors
from trainer.formats.gguf_types import (
    FLOATS,
    TERNARY,
    ChosenType,
    block_size,
    encoding_error,
    stored_bytes,
)

FALLBACK = "F16"  # for a matrix that cannot have the type asked for
_VOCABULARY = ("token_embd.weight", "output.weight")  # never ternary
_LOOKED_UP = "position_embd.weight"  # added, not multiplied; llama.cpp keeps it in F32
_ONLY_THE_SCALE = 1e-3  # relative error of weights that are ternary but for their float16 scale

#: Gives the numbers of a tensor in GGUF's layout.
Read = Callable[[GGUFTensor], NDArray[np.float32]]


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor, its type in the file, and why that is not the one asked for, if it is not."""

    tensor: GGUFTensor
    kind: str
    reason: str = ""

    @property
    def bytes(self) -> int:
        """Bytes in the file."""
        return stored_bytes(self.kind, self.tensor.gguf_shape)


@dataclass(frozen=True)
class Plan:
    """Every tensor with its type; `chosen` is what was asked for."""

    architecture: Architecture
    chosen: ChosenType
    tensors: tuple[PlannedTensor, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(planned.bytes for planned in self.tensors)

    @property
    def notes(self) -> list[str]:
        """What is not as it was asked for, a sentence per reason."""
        found: dict[str, list[str]] = {}
        for planned in self.tensors:
            if planned.reason:
                reason = f"{planned.kind} instead of {self.chosen.name}, {planned.reason}"
                found.setdefault(reason, []).append(planned.tensor.gguf_name)
        notes = [f"{reason}: {', '.join(names)}." for reason, names in found.items()]
        return [self.chosen.note, *notes] if self.chosen.note else notes


def plan_gguf(model: ModelConfig, chosen: ChosenType, read: Read, *, lossy: bool = False) -> Plan:
    """The type of every tensor. Norms, biases and learned positions stay F32.

    A ternary type takes only weights that it holds exactly, unless `lossy`. Raises UserError when
    nothing at all could have the type.
    """
    planned = [_planned(tensor, chosen.name) for tensor in gguf_tensors(model)]
    if chosen.name in TERNARY and not lossy:
        planned = _only_ternary(planned, chosen.name, read)
    if not any(p.kind == chosen.name for p in planned):
        reasons = sorted({p.reason for p in planned if p.reason})
        raise UserError(
            f"Nothing of this model could be {chosen.name}: {'; '.join(reasons)}. "
            "Choose Q8_0, F16 or F32."
        )
    return Plan(architecture(model), chosen, tuple(planned))


def _planned(tensor: GGUFTensor, wanted: str) -> PlannedTensor:
    if len(tensor.shape) == 1 or tensor.gguf_name == _LOOKED_UP:
        return PlannedTensor(tensor, "F32")
    if wanted in FLOATS:
        return PlannedTensor(tensor, wanted)
    if wanted in TERNARY and tensor.gguf_name in _VOCABULARY:
        return PlannedTensor(tensor, FALLBACK, "the vocabulary is never ternary")
    row, block = tensor.gguf_shape[-1], block_size(wanted)
    if row % block:
        return PlannedTensor(tensor, FALLBACK, f"rows of {row} are no multiple of {block}")
    return PlannedTensor(tensor, wanted)


def _only_ternary(planned: list[PlannedTensor], wanted: str, read: Read) -> list[PlannedTensor]:
    """`planned` with the fallback for weights that are not ternary, where others are."""
    errors = {p.tensor: encoding_error(read(p.tensor), wanted) for p in planned if p.kind == wanted}
    if errors and all(errors.values()):
        least, most = min(errors.values()), max(errors.values())
        if most < _ONLY_THE_SCALE:
            raise UserError(
                f"The weights are ternary, but their scales are no float16 numbers, as {wanted} "
                f"keeps them: it would change weights by {most:.1e} of their size; --lossy "
                "accepts that."
            )
        raise UserError(
            f"The weights of this model are not ternary: {wanted} would change them by "
            f"{100 * least:.0f} to {100 * most:.0f} % of their size and leave garbage. Choose Q4_0 "
            "or Q8_0, or give --lossy to write it all the same."
        )
    return [
        PlannedTensor(p.tensor, FALLBACK, "its weights are not ternary")
        if errors.get(p.tensor)
        else p
        for p in planned
    ]
