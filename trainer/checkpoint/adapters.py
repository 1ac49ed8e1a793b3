"""Adapters in PEFT's format: read into a model, merged into their base, written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shared.checkpoints.catalogue import ADAPTER, ADAPTER_CONFIG
from shared.errors import UserError
from shared.files import load_json, write_json
from shared.text import one_line
from trainer.checkpoint.base_model import write_base
from trainer.checkpoint.peft_format import PREFIX, adapter_config, with_adapters
from trainer.checkpoint.safetensors_file import float_shape, open_weights
from trainer.checkpoint.unpacking import unpacked
from trainer.config.model import ModelConfig
from trainer.model.base import Base
from trainer.model.parts.lora import merge
from trainer.model.shapes import trained_shapes

if TYPE_CHECKING:
    from trainer.model.language_model import LanguageModel

_MAX_CONFIG = 16 << 20  # bytes


def adapted_config(folder: Path, base: ModelConfig) -> ModelConfig:
    """The model of the adapters in `folder` on `base`. Raises UserError."""
    with unpacked(folder, (ADAPTER,)) as plain, open_weights(plain / ADAPTER) as file:
        names = list(file.keys())
    config = load_json(folder / ADAPTER_CONFIG, _MAX_CONFIG)
    return with_adapters(base, config, names, one_line(folder.name, 60))


def check_adapters(config: ModelConfig, folder: Path) -> None:
    """Compare the shapes of the adapters with those of `config`, reading the header only.

    Raises UserError.
    """
    with unpacked(folder, (ADAPTER,)) as plain, open_weights(plain / ADAPTER) as file:
        saved = {
            name.removeprefix(PREFIX): float_shape(file, name, folder.name)
            for name in file.keys()  # noqa: SIM118
        }
    expected = trained_shapes(config)
    for name in {**expected, **saved}:
        if saved.get(name) != expected.get(name):
            there, here = saved.get(name, "missing"), expected.get(name, "unknown")
            raise UserError(
                f"The adapters in {folder.name} are another model's: {one_line(name, 80)} is "
                f"{there} there and {here} here."
            )


def read_adapters(folder: Path) -> dict[str, Tensor]:
    """The adapters in `folder` by our names of them."""
    with unpacked(folder, (ADAPTER,)) as plain, open_weights(plain / ADAPTER) as file:
        return {
            name.removeprefix(PREFIX): file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118
        }


@torch.no_grad()
def load_adapters(model: LanguageModel, folder: Path) -> None:
    """Put the adapters in `folder` into `model`. Raises UserError if they are another model's."""
    check_adapters(model.config, folder)
    for name, values in read_adapters(folder).items():
        model.get_parameter(name).copy_(values)


@torch.no_grad()
def merge_adapters(model: LanguageModel, config: ModelConfig, folder: Path) -> None:
    """Add the adapters in `folder` to the weights of `model`, the base of `config`, in fp32."""
    check_adapters(config, folder)
    weights = dict(model.named_parameters())
    for name, merged in merge(config, weights, read_adapters(folder)):
        weights[name].copy_(merged)


def adapter_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adapters by PEFT's names of them."""
    return {PREFIX + name: value for name, value in weights.items()}


def write_adapter_files(folder: Path, model: ModelConfig, base: Base) -> None:
    """Write everything about adapters but their weights."""
    write_json(folder / ADAPTER_CONFIG, adapter_config(model, base.path))
    write_base(folder, base)
