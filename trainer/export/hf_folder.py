"""Exporting a model as a transformers folder, without training state."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from shared.checkpoints.catalogue import WEIGHTS
from shared.errors import RunError, UserError
from shared.files import fsync_directory, fsync_file, read_bytes, replace_file, write_json
from shared.hub.card import was_edited
from shared.temporaries import put_folder, temporary_folder
from shared.text import format_bytes, one_line
from trainer.checkpoint.chat_template import TEMPLATE_FILE
from trainer.checkpoint.disk import free_bytes
from trainer.checkpoint.hf_format import generation_config, hf_config
from trainer.checkpoint.opening import OpenedModel
from trainer.checkpoint.saving import (
    weight_tensors,
)
from trainer.checkpoint.tensor_file import write_tensors
from trainer.checkpoint.tokenizer_note import note_on_tokenizer
from trainer.data.tokenizer import TOKENIZER_FILES
from trainer.export.about import NOTHING_STATED, About, about, write_readme
from trainer.export.plain import Prepared, prepared

README = "README.md"
#: All files that an export may contain.
FILES = frozenset(
    {WEIGHTS, "config.json", "generation_config.json", TEMPLATE_FILE, README, *TOKENIZER_FILES}
)
_SMALL_FILES = 16 << 20  # bytes for the tokenizer and JSON files
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@dataclass(frozen=True)
class HFExport:
    """All decisions about a folder, made before the first byte is written."""

    path: Path
    prepared: Prepared
    dtype: str
    about: About


def find_dtype(name: str) -> str:
    """The type called `name`, in any case. Raises UserError naming the known ones."""
    wanted = {"FP32": "F32", "FP16": "F16"}.get(name.upper(), name.upper())
    if wanted not in DTYPES:
        raise UserError(
            f"--dtype is {one_line(name, 40)!r}; it must be one of {', '.join(DTYPES)}."
        )
    return wanted


def prepare_hf_folder(
    opened: OpenedModel,
    folder: Path,
    dtype: str = "F32",
    *,
    force: bool = False,
    given: About = NOTHING_STATED,
) -> HFExport:
    """Decide what to write. `given` is the metadata that is stated; the rest comes from the model's
    source.

    Raises UserError if the model or the path is not possible.
    """
    shown = one_line(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{shown} is a file; name a folder for --hf.")
    if folder.is_dir() and any(folder.iterdir()):
        if not force:
            raise UserError(f"{shown} is not empty; --force replaces an exported model.")
        _check_replaceable(folder)
    place = folder.resolve().parent
    if not place.is_dir():
        raise UserError(f"{shown} cannot be written: there is no folder {one_line(place)}.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{shown} cannot be written: no permission in {one_line(place)}.")
    needed = _weight_bytes(opened, dtype) + _SMALL_FILES
    if free_bytes(place) < needed:
        raise UserError(
            f"{shown} needs {format_bytes(needed)}, but only "
            f"{format_bytes(free_bytes(place))} is free there; choose another path."
        )
    ready = prepared(opened)
    if note := note_on_tokenizer(ready.plain, opened.tokenizer):
        ready = replace(ready, notes=(*ready.notes, note))
    for name, tensor in weight_tensors(ready.opened.model).items():
        _check_numbers(name, tensor, dtype)
    return HFExport(folder, ready, dtype, given.or_else(about(opened)))


def _check_numbers(name: str, tensor: torch.Tensor, dtype: str) -> None:
    """Raise UserError for numbers that `dtype` cannot hold; `gguf_types.encode` does for GGUF."""
    least, most = (float(value) for value in tensor.float().aminmax())
    if not math.isfinite(least) or not math.isfinite(most):
        why = "it has numbers that are not finite; use a checkpoint from before"
    elif (largest := max(most, -least)) > torch.finfo(DTYPES[dtype]).max:
        why = f"it has {largest:.4g}, beyond {dtype}'s range; use --dtype BF16 or F32"
    else:
        return
    raise UserError(f"The tensor {one_line(name, 80)} cannot be written: {why}.")


def _check_replaceable(folder: Path) -> None:
    """Raise UserError unless this command could have written the folder."""
    others = sorted({path.name for path in folder.iterdir()} - FILES)
    if others or not (folder / "config.json").is_file():
        has = f"it has {one_line(others[0], 60)}" if others else "it has no config.json"
        raise UserError(
            f"{one_line(folder)} is not an exported model ({has}), so --force does not replace it; "
            "name another folder or remove it yourself."
        )
    readme = folder / README
    if readme.is_file() and was_edited(read_bytes(readme).decode("utf-8", "replace")):
        raise UserError(
            f"{one_line(readme)} is not as this program wrote it, so --force does not replace the "
            "folder; move that file away, or name another folder."
        )


def write_hf_folder(export: HFExport, *, force: bool = False) -> list[tuple[str, int]]:
    """Write weights, configuration and tokenizer; returns each file's name and bytes.

    The folder is written beside its place and renamed. Raises RunError if the disk fails.
    """
    folder, opened, dtype = export.path, export.prepared.opened, export.dtype
    target = folder.resolve()
    try:
        with temporary_folder(target) as temporary:
            _write_files(opened, temporary, dtype)
            if export.about.license or export.about.author:
                replace_file(temporary / README, write_readme(export.about))
            for path in temporary.iterdir():
                fsync_file(path)
            fsync_directory(temporary)
            if target.is_dir() and any(target.iterdir()) and not force:
                raise UserError(f"{one_line(folder)} is no longer empty; name another folder.")
            put_folder(temporary, target)
        fsync_directory(target.parent)
    except OSError as error:
        raise RunError(f"Cannot write {one_line(folder)}: {error.strerror}.") from error
    return sorted((path.name, path.stat().st_size) for path in folder.iterdir())


def _write_files(opened: OpenedModel, folder: Path, dtype: str) -> None:
    tensors = {
        name: tensor.to(DTYPES[dtype]).contiguous()
        for name, tensor in weight_tensors(opened.model).items()
    }
    write_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
    eos_id, pad_id = opened.tokenizer.eos_id, opened.tokenizer.pad_id
    named = str(DTYPES[dtype]).removeprefix("torch.")
    config = hf_config(opened.model.config, eos_id, pad_id)
    config |= {"dtype": named, "torch_dtype": named, "bos_token_id": opened.tokenizer.bos_id}
    write_json(folder / "config.json", config)
    begin = {"bos_token_id": opened.tokenizer.bos_id}
    generation = generation_config(eos_id, pad_id, opened.end_ids) | begin
    write_json(folder / "generation_config.json", generation)
    opened.tokenizer.save(folder, opened.context)
    if opened.chat_template:
        replace_file(folder / TEMPLATE_FILE, opened.chat_template.encode())


def _weight_bytes(opened: OpenedModel, dtype: str) -> int:
    return sum(
        tensor.numel() * DTYPES[dtype].itemsize for tensor in weight_tensors(opened.model).values()
    )
