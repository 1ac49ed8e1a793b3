"""The type of every tensor in an export, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import UserError
from trainer.config.model import ModelConfig
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

FALLBACK = "F16"  # for a matrix that cannot have the chosen type
_VOCABULARY = ("token_embd.weight", "output.weight")  # never ternary
_ALSO_TERNARY = "Q4_0"  # in blocks of 32
_KEPT = "ternary weights are still exact"
_NOT_TERNARY = "its weights are not ternary"
_LOOKED_UP = "position_embd.weight"  # added, not multiplied; llama.cpp keeps it in F32
_ONLY_THE_SCALE = 1e-3  # relative error of weights that are ternary but for their float16 scale

#: Gives the numbers of a tensor in GGUF's layout.
Read = Callable[[GGUFTensor], NDArray[np.float32]]


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor, its type in the file, and the reason if that is not the chosen type.

    `ternary` marks ternary weights that are kept exactly in Q4_0.
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
    """Every tensor with its type; `chosen` is the type the person chose."""

    architecture: Architecture
    chosen: ChosenType
    tensors: tuple[PlannedTensor, ...]

    @property
    def written(self) -> str:
        """The type of most tensors as we write them: llama.cpp converts its own types from F32."""
        return "F32" if self.chosen.by_llama_cpp else self.chosen.name

    @property
    def bytes(self) -> int:
        """Bytes of all tensors as we write them."""
        return sum(planned.bytes for planned in self.tensors)

    @property
    def notes(self) -> list[str]:
        """The tensors that have another type, one sentence per reason."""
        found: dict[str, Counter[str]] = {}
        for planned in self.tensors:
            if planned.reason:
                instead = "Another type" if self.chosen.by_llama_cpp else planned.kind
                reason = f"{instead} instead of {self.chosen.name}, {planned.reason}"
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
    that it holds exactly, unless `lossy`. Raises UserError if no tensor can have the type.
    """
    if chosen.by_llama_cpp:
        if vocabulary is not None:
            raise UserError(
                f"--vocabulary-quant does not apply to {chosen.name}: llama.cpp chooses the types "
                "of that mixture."
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
    """All tensors in F32, with a reason for rows that do not fit llama.cpp's blocks."""
    block = block_size("IQ4_NL" if wanted == "IQ4_NL" else "Q4_K")
    planned = []
    for tensor in gguf_tensors(model):
        row = tensor.gguf_shape[-1]
        misfit = len(tensor.shape) > 1 and row % block
        reason = f"rows of {row} are not a multiple of {block}" if misfit else ""
        planned.append(PlannedTensor(tensor, "F32", reason))
    if all(p.reason for p in planned if len(p.tensor.shape) > 1):
        raise _nothing(wanted, planned)
    return tuple(planned)


def _nothing(wanted: str, planned: list[PlannedTensor]) -> UserError:
    reasons = sorted({p.reason for p in planned if p.reason})
    return UserError(
        f"No tensor of this model can be {wanted}: {'; '.join(reasons)}. Choose Q8_0, F16 or F32."
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
    return "the vocabulary is never ternary" if asked in TERNARY else "as chosen for the vocabulary"


def _planned(tensor: GGUFTensor, wanted: str, asked: str) -> PlannedTensor:
    """The tensor in the type `wanted`, or a fallback; `asked` is the type chosen for the file."""
    if len(tensor.shape) == 1 or tensor.gguf_name == _LOOKED_UP:
        return PlannedTensor(tensor, "F32")
    row, block = tensor.gguf_shape[-1], block_size(wanted)
    if row % block == 0:
        return PlannedTensor(tensor, wanted, "" if wanted == asked else _of_vocabulary(asked))
    reason = f"rows of {row} are not a multiple of {block}"
    if wanted in TERNARY and row % block_size(_ALSO_TERNARY) == 0:
        return PlannedTensor(tensor, _ALSO_TERNARY, f"{reason} ({_KEPT})", ternary=True)
    return PlannedTensor(tensor, FALLBACK, reason)


def _in_smaller_blocks(planned: PlannedTensor, read: Read) -> PlannedTensor | None:
    """In Q4_0, if that is exact: the scale is shared by fewer weights than a ternary type's."""
    if planned.ternary or encoding_error(read(planned.tensor), _ALSO_TERNARY, ternary=True):
        return None
    reason = f"fewer than {block_size(planned.kind)} weights share a scale ({_KEPT})"
    return PlannedTensor(planned.tensor, _ALSO_TERNARY, reason, ternary=True)


def _only_ternary(
    planned: list[PlannedTensor], wanted: str, read: Read, *, lossy: bool
) -> list[PlannedTensor]:
    """`planned` with the fallback for the weights that are not ternary."""
    errors = {
        p.tensor: encoding_error(read(p.tensor), p.kind, ternary=p.ternary)
        for p in planned
        if p.ternary or (p.kind == wanted and not lossy)
    }
    for place, p in enumerate(planned):
        exact = _in_smaller_blocks(p, read) if errors.get(p.tensor) else None
        if exact:
            planned[place], errors[p.tensor] = exact, 0.0
    if not lossy and errors and all(errors.values()):
        least, most = min(errors.values()), max(errors.values())
        if most < _ONLY_THE_SCALE:
            raise UserError(
                f"The weights are ternary, but {wanted} stores their scales as float16, which "
                f"would change weights by a relative {most:.1e}; --lossy accepts that."
            )
        raise UserError(
            f"The weights of this model are not ternary: {wanted} would change them by "
            f"{100 * least:.0f} % or more and make the model useless. Choose Q4_0 or Q8_0, or give "
            "--lossy to write it anyway."
        )
    return [
        PlannedTensor(p.tensor, FALLBACK, p.reason.removesuffix(f" ({_KEPT})") or _NOT_TERNARY)
        if errors.get(p.tensor)
        else p
        for p in planned
    ]
