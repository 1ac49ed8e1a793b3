"""What is written in which type, and what is refused; decided before the first byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import UserError
from trainer.config.schema import ModelConfig
from trainer.formats.gguf_names import (
    Architecture,
    GGUFTensor,
    architecture,
    gguf_tensors,
    in_any_layer,
)
from trainer.formats.gguf_types import (
    TERNARY,
    ChosenType,
    block_size,
    encoding_error,
    stored_bytes,
)

FALLBACK = "F16"  # for a matrix that cannot have the type asked for
_VOCABULARY = ("token_embd.weight", "output.weight")  # never ternary
_ALSO_TERNARY = "Q4_0"  # in blocks of 32
_KEPT = "ternary weights are kept exactly all the same"
_NOT_TERNARY = "its weights are not ternary"
_LOOKED_UP = "position_embd.weight"  # added, not multiplied; llama.cpp keeps it in F32
_ONLY_THE_SCALE = 1e-3  # relative error of weights that are ternary but for their float16 scale

#: Gives the numbers of a tensor in GGUF's layout.
Read = Callable[[GGUFTensor], NDArray[np.float32]]


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor, its type in the file, and why that is not the one asked for, if it is not.

    `ternary` weights are kept exactly in a type that is not made for them.
    """

    tensor: GGUFTensor
    kind: str
    reason: str = ""
    ternary: bool = False

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
    def written(self) -> str:
        """The type most of what we write has: llama.cpp makes its own types out of F32."""
        return "F32" if self.chosen.by_llama_cpp else self.chosen.name

    @property
    def bytes(self) -> int:
        """Bytes of all tensors as we write them."""
        return sum(planned.bytes for planned in self.tensors)

    @property
    def notes(self) -> list[str]:
        """What is not as it was asked for, a sentence per reason."""
        found: dict[str, Counter[str]] = {}
        for planned in self.tensors:
            if planned.reason:
                instead = "Another type" if self.chosen.by_llama_cpp else planned.kind
                reason = f"{instead} in place of {self.chosen.name}, {planned.reason}"
                found.setdefault(reason, Counter())[in_any_layer(planned.tensor.gguf_name)] += 1
        notes = [
            f"{reason}: " + ", ".join(f"{name} ({n})" for name, n in names.items()) + "."
            for reason, names in found.items()
        ]
        return [self.chosen.note, *notes] if self.chosen.note else notes


def plan_gguf(
    model: ModelConfig,
    chosen: ChosenType,
    read: Read,
    *,
    vocabulary: ChosenType | None = None,
    lossy: bool = False,
) -> Plan:
    """The type of every tensor. Norms, biases and learned positions stay F32.

    `vocabulary` is the type of the embedding and the output head. A ternary type takes only weights
    that it holds exactly, unless `lossy`. Raises UserError when nothing at all could have the type.
    """
    if chosen.by_llama_cpp:
        if vocabulary is not None:
            raise UserError(
                f"--vocabulary-quant has no say in {chosen.name}, which llama.cpp mixes."
            )
        return Plan(architecture(model), chosen, _for_llama_cpp(model, chosen.name))
    of_vocabulary = _vocabulary_type(vocabulary, chosen)
    planned = [
        _planned(tensor, of_vocabulary, chosen.name)
        if tensor.gguf_name in _VOCABULARY
        else _planned(tensor, chosen.name, chosen.name)
        for tensor in gguf_tensors(model)
    ]
    if chosen.name in TERNARY:
        planned = _only_ternary(planned, chosen.name, read, lossy=lossy)
    if not any(p.ternary or p.kind == chosen.name for p in planned):
        raise _nothing(chosen.name, planned)
    return Plan(architecture(model), chosen, tuple(planned))


def _for_llama_cpp(model: ModelConfig, wanted: str) -> tuple[PlannedTensor, ...]:
    """All in F32, with what llama.cpp will do about rows that do not fit."""
    block = block_size("IQ4_NL" if wanted == "IQ4_NL" else "Q4_K")
    planned = []
    for tensor in gguf_tensors(model):
        row = tensor.gguf_shape[-1]
        misfit = len(tensor.shape) > 1 and row % block
        reason = f"rows of {row} are no multiple of {block}" if misfit else ""
        planned.append(PlannedTensor(tensor, "F32", reason))
    if all(p.reason for p in planned if len(p.tensor.shape) > 1):
        raise _nothing(wanted, planned)
    return tuple(planned)


def _nothing(wanted: str, planned: list[PlannedTensor]) -> UserError:
    reasons = sorted({p.reason for p in planned if p.reason})
    return UserError(
        f"Nothing of this model could be {wanted}: {'; '.join(reasons)}. Choose Q8_0, F16 or F32."
    )


def _vocabulary_type(asked: ChosenType | None, chosen: ChosenType) -> str:
    if asked is None:
        return FALLBACK if chosen.name in TERNARY else chosen.name
    if asked.by_llama_cpp or asked.name in TERNARY:
        raise UserError(
            f"--vocabulary-quant cannot be {asked.name}; choose Q8_0, a type of 4 or 5 bits, or "
            "F16, BF16, F32."
        )
    return asked.name


def _of_vocabulary(asked: str) -> str:
    return "the vocabulary is never ternary" if asked in TERNARY else "as the vocabulary was asked"


def _planned(tensor: GGUFTensor, wanted: str, asked: str) -> PlannedTensor:
    """The tensor in the type `wanted`, or what it has to be instead; `asked` is the file's."""
    if len(tensor.shape) == 1 or tensor.gguf_name == _LOOKED_UP:
        return PlannedTensor(tensor, "F32")
    row, block = tensor.gguf_shape[-1], block_size(wanted)
    if row % block == 0:
        return PlannedTensor(tensor, wanted, "" if wanted == asked else _of_vocabulary(asked))
    reason = f"rows of {row} are no multiple of {block}"
    if wanted in TERNARY and row % block_size(_ALSO_TERNARY) == 0:
        return PlannedTensor(tensor, _ALSO_TERNARY, f"{reason} ({_KEPT})", ternary=True)
    return PlannedTensor(tensor, FALLBACK, reason)


def _only_ternary(
    planned: list[PlannedTensor], wanted: str, read: Read, *, lossy: bool
) -> list[PlannedTensor]:
    """`planned` with the fallback for weights that are not ternary, where others are."""
    errors = {
        p.tensor: encoding_error(read(p.tensor), p.kind, ternary=p.ternary)
        for p in planned
        if p.ternary or (p.kind == wanted and not lossy)
    }
    if not lossy and errors and all(errors.values()):
        least, most = min(errors.values()), max(errors.values())
        if most < _ONLY_THE_SCALE:
            raise UserError(
                f"The weights are ternary, but their scales are no float16 numbers, as {wanted} "
                f"keeps them: it would change weights by {most:.1e} of their size; --lossy "
                "accepts that."
            )
        raise UserError(
            f"The weights of this model are not ternary: {wanted} would change them by "
            f"{100 * least:.0f} % of their size or more and leave garbage. Choose Q4_0 or Q8_0, "
            "or give --lossy to write it all the same."
        )
    return [
        PlannedTensor(p.tensor, FALLBACK, p.reason.removesuffix(f" ({_KEPT})") or _NOT_TERNARY)
        if errors.get(p.tensor)
        else p
        for p in planned
    ]
