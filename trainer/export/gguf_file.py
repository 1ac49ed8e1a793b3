"""Exporting a model as one GGUF file, tokenizer included."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from numpy.typing import NDArray

from shared.errors import UserError
from shared.files import open_file
from shared.output_file import STDOUT, check_output, write_output
from shared.temporaries import temporary_folder, temporary_place
from shared.text import format_bytes, one_line
from trainer.checkpoint.disk import Disk
from trainer.checkpoint.opening import OpenedModel
from trainer.checkpoint.saving import weight_tensors
from trainer.export.about import NOTHING_STATED, About, about
from trainer.export.llama_quantize import check_installed, quantize_file
from trainer.export.modelfile import Modelfile, is_nameable, make_modelfile, modelfile_path
from trainer.export.plain import Prepared, prepared
from trainer.export.plan import Plan, plan_gguf
from trainer.export.table import WrittenTensor
from trainer.formats.gguf_names import GGUFTensor, check_architecture
from trainer.formats.gguf_parsing import open_gguf
from trainer.formats.gguf_reading import digest_key
from trainer.formats.gguf_tokenizer import add_ends, add_tokenizer, check_tokenizer
from trainer.formats.gguf_types import ChosenType, encode_ternary
from trainer.formats.gguf_writing import (
    StoredTensor,
    add_general,
    add_shape,
    gguf_chunks,
    rope_tensors,
)
from trainer.model.language_model import LanguageModel

_DISK = Disk()
_CHUNK = 16 << 20  # bytes at once

#: Called with the number of bytes just written.
Advance = Callable[[int], None]


@dataclass(frozen=True)
class GGUFExport:
    """All decisions about a file, made before the first byte is written."""

    path: Path
    prepared: Prepared
    plan: Plan
    mhc: Path | None
    about: About
    modelfile: Modelfile | None
    notes: tuple[str, ...]

    @property
    def opened(self) -> OpenedModel:
        """The model as it is written."""
        return self.prepared.opened


def prepare_gguf(
    opened: OpenedModel,
    path: Path,
    chosen: ChosenType,
    *,
    vocabulary: ChosenType | None = None,
    mhc: Path | None = None,
    force: bool = False,
    lossy: bool = False,
    temporary: bool = False,
    given: About = NOTHING_STATED,
    modelfile: bool = False,
    disk: Disk = _DISK,
) -> GGUFExport:
    """Decide what to write. `vocabulary` is the type of the embedding and the output head; `mhc` is
    the file for hyper-connections; a `temporary` file lies where TMPDIR points.
    `given` is the metadata that is stated; the rest comes from the model's source. `modelfile`
    writes an Ollama Modelfile beside the file.

    Raises UserError if the model, a type or a path is not possible.
    """
    for place in (path, mhc):
        if place is not None and str(place) == STDOUT:
            raise UserError(
                "A GGUF file cannot be written to standard output; name a file, such as model.gguf."
            )
        if place is not None:
            check_output(place, force=force)
    if mhc is not None and mhc.resolve() == path.resolve():
        raise UserError(f"{one_line(path)} is named twice; give --mhc a file of its own.")
    if chosen.by_llama_cpp:
        check_installed(chosen.name)
    ready = prepared(opened, apart=mhc is not None)
    if ready.beside is None:
        check_architecture(ready.plain)
    notes = [*ready.notes, *check_tokenizer(opened.tokenizer, _other_ends(opened))]
    if mhc is not None:
        notes += _about_mhc(ready, path, mhc, chosen)
    read = functools.partial(weight_in_gguf, ready.opened.model)
    plan = plan_gguf(ready.plain, chosen, read, vocabulary=vocabulary, lossy=lossy)
    free = disk.free_bytes(path.resolve().parent)
    needed = 2 * plan.bytes if chosen.by_llama_cpp else plan.bytes  # it converts a file of ours
    if free < needed:
        if temporary:
            raise UserError(
                f"The comparison needs a file of {format_bytes(needed)}, but only "
                f"{format_bytes(free)} is free in {one_line(temporary_place())}; point TMPDIR at a "
                "larger disk."
            )
        raise UserError(
            f"{one_line(path)} needs {format_bytes(needed)}, but only {format_bytes(free)} "
            "is free there; choose another path."
        )
    known = given.or_else(about(opened))
    beside = None
    if modelfile and ready.beside is None:
        beside, told = _modelfile(ready.opened, path, known, force=force)
        notes += told
    return GGUFExport(path, ready, plan, mhc, known, beside, (*notes, *plan.notes))


def _modelfile(
    opened: OpenedModel, path: Path, known: About, *, force: bool
) -> tuple[Modelfile | None, tuple[str, ...]]:
    """The Modelfile, and what is to be said about it."""
    if not is_nameable(path):
        return None, ("No Modelfile is written: Ollama cannot read the name of this file in one.",)
    check_output(modelfile_path(path), force=force)
    made = make_modelfile(opened, path, known)
    return made, made.notes


def _other_ends(opened: OpenedModel) -> frozenset[int]:
    return opened.end_ids - {opened.tokenizer.eos_id}


def _about_mhc(ready: Prepared, path: Path, mhc: Path, chosen: ChosenType) -> list[str]:
    if ready.beside is None:
        return ["The model has no hyper-connections, so no .mhc file is written."]
    if chosen.by_llama_cpp:
        raise UserError(
            f"llama.cpp does not know {ready.beside.part.title} and cannot make {chosen.name} of "
            "such a model; choose a type that this program writes, such as Q8_0."
        )
    title = ready.beside.part.title
    notes = [f"llama.cpp refuses this file: it has {title}, which only this program runs."]
    read = path.with_suffix(ready.beside.sidecar.suffix)
    if mhc.resolve() != read.resolve():
        notes.append(f"The model is read with {one_line(read)}: rename {one_line(mhc)} to it.")
    return notes


def write_gguf(
    export: GGUFExport, *, force: bool = False, advance: Advance = lambda _: None
) -> int:
    """Write the file atomically, and its Modelfile; returns its size in bytes.

    Raises RunError if the disk fails.
    """
    if export.mhc is not None and export.prepared.beside:
        write_output(export.mhc, [export.prepared.beside.data], force=force)
    size = _write_model(export, _counted(_chunks(export), advance), force=force)
    if export.modelfile is not None:
        text = export.modelfile.text.encode()
        write_output(modelfile_path(export.path), [text], force=force)
    return size


def _write_model(export: GGUFExport, chunks: Iterator[bytes], *, force: bool) -> int:
    kind = export.plan.chosen
    if not kind.by_llama_cpp:
        return write_output(export.path, chunks, force=force)
    with temporary_folder(export.path.resolve()) as folder:
        whole, mixed = folder / "f32.gguf", folder / "mixed.gguf"
        write_output(whole, chunks)
        quantize_file(whole, mixed, kind.name)
        return write_output(export.path, _read(mixed), force=force)


def written_tensors(path: Path) -> list[WrittenTensor]:
    """The tensors in a GGUF file, in its order."""
    return [
        WrittenTensor(tensor.name, tensor.shape, tensor.kind.name, tensor.bytes)
        for tensor in open_gguf(path).tensors.values()
    ]


def weight_in_gguf(model: LanguageModel, tensor: GGUFTensor) -> NDArray[np.float32]:
    """A tensor in GGUF's layout; a view if the layouts are the same."""
    return tensor.to_gguf(weight_tensors(model)[tensor.name].float().cpu().numpy())


def _chunks(export: GGUFExport) -> Iterator[bytes]:
    opened, plan = export.opened, export.plan
    model = opened.model
    beside = export.prepared.beside
    writer = GGUFWriter(None, beside.sidecar.architecture if beside else plan.architecture)
    known = export.about
    add_general(writer, known.name, plan.written, license_=known.license, author=known.author)
    add_shape(writer, model.config)
    if beside:
        architecture = beside.sidecar.architecture
        for key in beside.sidecar.keys:
            writer.add_uint32(f"{architecture}.{key}", getattr(model.config, key))
        digest = hashlib.sha256(beside.data).hexdigest()
        writer.add_string(f"{architecture}.{digest_key(beside.sidecar)}", digest)
    add_tokenizer(writer, opened.tokenizer, model.dimensions.V, opened.chat_template)
    add_ends(writer, opened.tokenizer, _other_ends(opened))
    stored = [
        StoredTensor(
            planned.tensor.gguf_name,
            planned.tensor.gguf_shape,
            planned.kind,
            functools.partial(weight_in_gguf, model, planned.tensor),
            encode_ternary if planned.ternary else None,
        )
        for planned in plan.tensors
    ]
    return gguf_chunks(writer, [*rope_tensors(model.config), *stored])


def _counted(chunks: Iterator[bytes], advance: Advance) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        advance(len(chunk))


def _read(path: Path) -> Iterator[bytes]:
    with open_file(path) as file:
        while chunk := file.read(_CHUNK):
            yield chunk
