"""Reading checkpoints back: weights for generation, everything for an exact resume."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from shared.checkpoints.catalogue import META, OPTIMIZER, WEIGHTS, in_use
from shared.checkpoints.manifest import MANIFEST, verify_folder
from shared.errors import RunError, UserError
from shared.files import load_json, read_json
from shared.hub.names import name_of_cached
from shared.text import one_line, plural
from trainer.checkpoint.finding import find_checkpoint
from trainer.checkpoint.foreign_folder import OUTPUT, parameter_name, weight_files
from trainer.checkpoint.hf_format import model_from_hf
from trainer.checkpoint.progress import Progress, read_progress
from trainer.checkpoint.random_state import restore
from trainer.checkpoint.unpacking import unpacked
from trainer.config.schema import ModelConfig
from trainer.model.dimensions import dimensions
from trainer.model.language_model import LanguageModel
from trainer.model.parts.registry import owner, part_files
from trainer.model.shapes import parameter_shapes
from trainer.optim.optimizer import Optimizer

_MAX_CONFIG = 16 << 20  # bytes
#: Types of safetensors that are plain numbers.
_FLOATS = ("F64", "F32", "F16", "BF16")


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises RunError if it is not one."""
    with _open_weights(path, device) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def _open_weights(path: Path, device: torch.device | str = "cpu") -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise RunError(f"{one_line(path)} cannot be read as safetensors: {error}.") from error


def verify(folder: Path) -> None:
    """Check every file against the manifest, if there is one. Raises RunError."""
    if (folder / MANIFEST).is_file():
        problems = verify_folder(folder)
        if problems:
            raise RunError(f"The checkpoint {folder} is damaged: {problems[0]}; use an older one.")


def model_config(folder: Path) -> ModelConfig:
    """The shape of a checkpoint, from its `config.json`. Raises UserError."""
    return model_from_hf(load_json(folder / "config.json", _MAX_CONFIG), _name(folder))


def _name(folder: Path) -> str:
    """The model's name, from the configuration of its run or else the folder's."""
    value: Any = read_json(folder / META)
    for key in ("config", "model", "name"):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, str) and value:
        return one_line(value, 60)
    cached = name_of_cached(folder)
    return one_line(folder.name if cached is None else cached.model, 60)


def _all_weight_files(config: ModelConfig, folder: Path) -> list[Path]:
    """The safetensors files of a model, those of its parts included."""
    return [*weight_files(folder), *(folder / name for name in part_files(config))]


def _our_name(name: str, config: ModelConfig) -> str | None:
    return name if owner(config)(name) else parameter_name(name, config)


def check_weights(config: ModelConfig, folder: Path) -> None:
    """Compare the shapes in the weights files with those of `config`, reading headers only.

    Raises UserError naming both shapes when they differ.
    """
    with unpacked(folder, (WEIGHTS, *part_files(config))) as plain:
        _check_weights(config, plain)


def _check_weights(config: ModelConfig, folder: Path) -> None:
    saved: dict[str, tuple[int, ...]] = {}
    for path in _all_weight_files(config, folder):
        with _open_weights(path) as file:
            for theirs in file.keys():  # noqa: SIM118
                name = _our_name(theirs, config)
                entry = file.get_slice(theirs)
                if name is None:
                    continue
                if entry.get_dtype() not in _FLOATS:
                    raise UserError(
                        f"{one_line(theirs, 80)} of {folder.name} has the type "
                        f"{entry.get_dtype()}; weights must be floating-point."
                    )
                if name in saved:
                    raise UserError(
                        f"The weights of {folder.name} have {one_line(name, 80)} twice; "
                        "remove one of them."
                    )
                saved[name] = tuple(entry.get_shape())
    if len(saved) < dimensions(config).L:
        raise UserError(
            f"The config.json of {folder.name} says {plural(dimensions(config).L, 'layer')}, but "
            f"its weights are {plural(len(saved), 'tensor')}."
        )
    expected = parameter_shapes(config)
    problems = [
        f"{name} is {saved[name]} there and {shape} here"
        if name in saved
        else f"{name} {shape} is missing there"
        for name, shape in expected.items()
        if saved.get(name) != shape
    ]
    problems += [
        f"{one_line(n, 80)} {shape} is unknown here"
        for n, shape in saved.items()
        if n not in expected and not (n == OUTPUT and config.tie_embeddings)
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(
            f"The checkpoint {folder.name} holds another model: {problems[0]}{more}; "
            "resume with the shape it was trained with."
        )


def load_weights(model: LanguageModel, folder: Path) -> None:
    """Load a checkpoint's weights into `model`, in the model's type.

    Raises UserError if they are another model's.
    """
    with unpacked(folder, (WEIGHTS, *part_files(model.config))) as plain:
        _check_weights(model.config, plain)
        parameters = dict(model.named_parameters())
        head: Tensor | None = None
        for path in _all_weight_files(model.config, plain):
            with _open_weights(path) as file, torch.no_grad():
                for theirs in file.keys():  # noqa: SIM118
                    name = _our_name(theirs, model.config)
                    if name in parameters:
                        parameters[name].copy_(file.get_tensor(theirs))
                    elif name == OUTPUT:
                        head = file.get_tensor(theirs)
    if head is not None and not torch.equal(head.to(model.lm_head.weight), model.lm_head.weight):
        raise UserError(
            f"The config.json of {folder.name} ties its output head to the embedding, but its "
            "weights have a different head; set tie_word_embeddings to false if it belongs to the "
            "model."
        )


def check_optimizer(optimizer: Optimizer, folder: Path) -> None:
    """Raise UserError if `optimizer` cannot continue from the state in `folder`; reads its header
    only.
    """
    with unpacked(folder, (OPTIMIZER,)) as plain, _open_weights(plain / OPTIMIZER) as file:
        optimizer.check(
            {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        )


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for generation, and the folder that holds its tokenizer."""

    model: LanguageModel
    folder: Path


def load_model(reference: str | Path, device: torch.device) -> LoadedModel:
    """The model of a checkpoint in evaluation mode, checksums verified first."""
    folder = find_checkpoint(reference)
    with in_use(folder):
        verify(folder)
        config = model_config(folder)
        with unpacked(folder, (WEIGHTS, *part_files(config))) as plain:
            # A config.json may claim any size: check before allocating.
            _check_weights(config, plain)
            model = LanguageModel(config)
            load_weights(model, plain)
    return LoadedModel(model.to(device).eval(), folder)


def load_training_state(
    folder: Path,
    model: LanguageModel,
    optimizer: Optimizer,
) -> Progress:
    """Restore weights, optimizer and every generator; returns the run's position.

    The folder must have been verified.
    """
    with unpacked(folder) as plain:
        progress, generators = read_progress(plain)
        load_weights(model, plain)
        tensors = read_tensors(plain / OPTIMIZER)
    optimizer.load(tensors)
    restore(tensors, generators)
    return progress
