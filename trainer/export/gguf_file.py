"""A model as one GGUF file, its tokenizer inside."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from numpy.typing import NDArray

from shared.errors import UserError
from shared.output_file import STDOUT, check_output, write_output
from shared.text import format_bytes, one_line
from trainer.checkpoint.opening import OpenedModel
from trainer.checkpoint.saving import free_bytes, weight_tensors
from trainer.export.plan import Plan, plan_gguf
from trainer.formats.gguf_names import GGUFTensor
from trainer.formats.gguf_tokenizer import add_tokenizer, check_tokenizer
from trainer.formats.gguf_types import ChosenType
from trainer.formats.gguf_writing import StoredTensor, add_general, add_shape, gguf_chunks
from trainer.model.language_model import LanguageModel

Advance = Callable[[int], None]


def weight_in_gguf(model: LanguageModel, tensor: GGUFTensor) -> NDArray[np.float32]:
    """The numbers of a tensor in GGUF's layout; a view where the layouts are the same."""
    return tensor.to_gguf(weight_tensors(model)[tensor.name].float().cpu().numpy())


def check_gguf(
    opened: OpenedModel, path: Path, chosen: ChosenType, *, force: bool, lossy: bool
) -> tuple[Plan, list[str]]:
    """The plan for the file, and what is to be told before it is written.

    Raises UserError for a model, a type or a place that will not do.
    """
    if str(path) == STDOUT:
        raise UserError("--gguf - is no file; name one, such as model.gguf.")
    check_output(path, force=force)
    notes = check_tokenizer(opened.tokenizer)
    read = functools.partial(weight_in_gguf, opened.model)
    plan = plan_gguf(opened.model.config, chosen, read, lossy=lossy)
    free = free_bytes(path.resolve().parent)
    if free < plan.bytes:
        raise UserError(
            f"{one_line(path)} would take {format_bytes(plan.bytes)}, and {format_bytes(free)} "
            "are free there; name another place."
        )
    return plan, [*notes, *plan.notes]


def write_gguf(
    opened: OpenedModel,
    path: Path,
    plan: Plan,
    *,
    force: bool = False,
    advance: Advance = lambda _: None,
) -> int:
    """Write what is planned; returns the bytes. `path` is whole or as it was.

    `advance` is told the bytes as they are written. Raises RunError when the disk refuses.
    """
    return write_output(path, _counted(_chunks(opened, plan), advance), force=force)


def _chunks(opened: OpenedModel, plan: Plan) -> Iterator[bytes]:
    model = opened.model
    writer = GGUFWriter(None, plan.architecture)
    add_general(writer, model.config.name, plan.chosen.name)
    add_shape(writer, model.config, plan.architecture)
    add_tokenizer(writer, opened.tokenizer, model.dimensions.V, opened.chat_template)
    stored = [
        StoredTensor(
            planned.tensor.gguf_name,
            planned.tensor.gguf_shape,
            planned.kind,
            functools.partial(weight_in_gguf, model, planned.tensor),
        )
        for planned in plan.tensors
    ]
    return gguf_chunks(writer, stored)


def _counted(chunks: Iterator[bytes], advance: Advance) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        advance(len(chunk))
