"""Reading checkpoints back: weights for generation, everything for an exact resume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.checkpoints.catalogue import META, OPTIMIZER, WEIGHTS, in_use, is_adapter
from shared.checkpoints.manifest import MANIFEST, verify_folder
from shared.errors import RunError, UserError
from shared.files import load_json, read_json
from shared.hub.names import name_of_cached
from shared.text import one_line, plural
from trainer.checkpoint.adapters import (
    adapted_config,
    check_adapters,
    load_adapters,
    merge_adapters,
)
from trainer.checkpoint.base_model import base_at, find_base, is_same
from trainer.checkpoint.finding import find_checkpoint
from trainer.checkpoint.foreign_folder import OUTPUT, parameter_name, weight_files
from trainer.checkpoint.hf_format import model_from_hf
from trainer.checkpoint.progress import Progress, read_progress
from trainer.checkpoint.random_state import restore
from trainer.checkpoint.safetensors_file import (
    Saved,
    float_shape,
    open_weights,
    saved_tensors,
)
from trainer.checkpoint.unpacking import unpacked
from trainer.config.model import ModelConfig
from trainer.distributed.group import ALONE, Group
from trainer.model.dimensions import dimensions
from trainer.model.language_model import LanguageModel
from trainer.model.parts.registry import base_of, owner, part_files, rests_on_base
from trainer.model.shapes import parameter_shapes
from trainer.optim.optimizer import Optimizer
from trainer.sharded import here, put, rows_here

_MAX_CONFIG = 16 << 20  # bytes


def verify(folder: Path) -> None:
    """Check every file against the manifest, if there is one. Raises RunError."""
    if (folder / MANIFEST).is_file():
        problems = verify_folder(folder)
        if problems:
            raise RunError(f"The checkpoint {folder} is damaged: {problems[0]}; use an older one.")


def model_config(folder: Path, base: str | None = None) -> ModelConfig:
    """The shape of a checkpoint, from its `config.json`, or from those of its adapters and their
    base, which is sought at `base` first. Raises UserError.
    """
    if is_adapter(folder):
        return adapted_config(folder, model_config(find_base(folder, base).path))
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
    if is_adapter(folder):
        check_adapters(config, folder)
        return
    config = base_of(config)  # adapters that begin on it are not in it
    with unpacked(folder, (WEIGHTS, *part_files(config))) as plain:
        _check_weights(config, plain)


def _check_weights(config: ModelConfig, folder: Path) -> None:
    saved: dict[str, tuple[int, ...]] = {}
    for path in _all_weight_files(config, folder):
        with open_weights(path) as file:
            for theirs in file.keys():  # noqa: SIM118
                name = _our_name(theirs, config)
                if name is None:
                    continue
                if name in saved:
                    raise UserError(
                        f"The weights of {folder.name} have {one_line(name, 80)} twice; "
                        "remove one of them."
                    )
                saved[name] = float_shape(file, theirs, folder.name)
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
    """Load a checkpoint's weights into `model`, in the model's type: also those of the base, for
    a model with adapters.

    Raises UserError if they are another model's.
    """
    if is_adapter(folder):
        load_base(model, folder)
        load_adapters(model, folder)
        return
    if not rests_on_base(model.config):
        _load_whole(model, folder)
    elif model.base is None or model.base.path != folder.resolve():
        _load_whole(model, folder)
        model.base = base_at(folder)


def load_base(model: LanguageModel, folder: Path, first: str | None = None) -> None:
    """Load the base of the adapters in `folder` into `model`, unless it has it already; it is
    sought at `first` first.

    Does nothing for a checkpoint with the whole model. Raises UserError as `find_base` does.
    """
    if not is_adapter(folder) or (model.base is not None and is_same(folder, model.base)):
        return
    base = find_base(folder, first)
    _load_whole(model, base.path)
    model.base = base


def _load_whole(model: LanguageModel, folder: Path) -> None:
    """Load the weights of a model that is no adapter's."""
    config = base_of(model.config)
    with unpacked(folder, (WEIGHTS, *part_files(config))) as plain:
        _check_weights(config, plain)
        parameters = dict(model.named_parameters())
        tied = model.lm_head.weight
        head: Tensor | None = None
        for path in _all_weight_files(config, plain):
            with open_weights(path) as file, torch.no_grad():
                for theirs in file.keys():  # noqa: SIM118
                    name = _our_name(theirs, config)
                    if name in parameters:
                        put(parameters[name], Saved(file, theirs))
                    elif name == OUTPUT:
                        head = Saved(file, theirs)[rows_here(tied)]
    if head is not None and not torch.equal(head.to(here(tied)), here(tied)):
        raise UserError(
            f"The config.json of {folder.name} ties its output head to the embedding, but its "
            "weights have a different head; set tie_word_embeddings to false if it belongs to the "
            "model."
        )


def check_optimizer(optimizer: Optimizer, folder: Path) -> None:
    """Raise UserError if `optimizer` cannot continue from the state in `folder`; reads its header
    only.
    """
    with unpacked(folder, (OPTIMIZER,)) as plain, open_weights(plain / OPTIMIZER) as file:
        optimizer.check(
            {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        )


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for generation, its folder, and the folder of its base, if that is another."""

    model: LanguageModel
    folder: Path
    base: Path


def load_model(reference: str | Path, device: torch.device) -> LoadedModel:
    """The model of a checkpoint in evaluation mode, checksums verified first.

    Adapters are merged into their base, in fp32.
    """
    folder = find_checkpoint(reference)
    with in_use(folder):
        verify(folder)
        if is_adapter(folder):
            return _load_merged(folder, device)
        config = model_config(folder)
        with unpacked(folder, (WEIGHTS, *part_files(config))) as plain:
            # A config.json may claim any size: check before allocating.
            _check_weights(config, plain)
            model = LanguageModel(config)
            load_weights(model, plain)
    return LoadedModel(model.to(device).eval(), folder, folder)


def _load_merged(folder: Path, device: torch.device) -> LoadedModel:
    base = find_base(folder)
    plain = model_config(base.path)
    config = adapted_config(folder, plain)
    check_adapters(config, folder)
    with unpacked(base.path, (WEIGHTS,)) as weights:
        _check_weights(plain, weights)
    model = LanguageModel(plain)
    _load_whole(model, base.path)
    merge_adapters(model, config, folder)
    return LoadedModel(model.to(device).eval(), folder, base.path)


def load_training_state(
    folder: Path,
    model: LanguageModel,
    optimizer: Optimizer,
    group: Group = ALONE,
) -> Progress:
    """Restore weights, optimizer and this rank's generators; returns the run's position.

    The folder must have been verified.
    """
    with unpacked(folder) as plain:
        progress, generators = read_progress(plain)
        load_weights(model, plain)
        with open_weights(plain / OPTIMIZER) as file:
            saved = saved_tensors(file)
            optimizer.load(saved)
            states = {name: x[:] for name, x in saved.items() if name.startswith("rng.")}
    restore(states, generators, group)
    return progress
