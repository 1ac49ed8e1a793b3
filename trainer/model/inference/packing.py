"""A model's twin for inference on a CPU: the same weights, read as fast as can be."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from trainer.model.gpt2 import Affine
from trainer.model.inference.linears import HalfLinear, PackedLinear, PlainLinear
from trainer.model.inference.one_row import OneRow
from trainer.model.language_model import LanguageModel
from trainer.sharded import is_sharded

Precision = Literal["fp32", "fp16"]
#: Makes a linear layer from a weight (O, I) and a bias.
MakeLinear = Callable[[Tensor, Tensor | None], nn.Module]

_LAYERS: dict[Precision, MakeLinear] = {"fp32": PackedLinear, "fp16": HalfLinear}
_Module = TypeVar("_Module", bound=nn.Module)


@functools.cache
def can_pack(precision: Precision) -> bool:
    """Whether this torch and this processor have the kernels. Tries one small product."""
    try:
        with torch.inference_mode():
            _LAYERS[precision](torch.ones(8, 8), None)(torch.ones(2, 8))
    except (AttributeError, RuntimeError):
        return False
    return True


def packed(model: LanguageModel, precision: Precision) -> LanguageModel:
    """A copy of `model` (on a CPU, fp32) with every matrix packed. All else is shared with it.

    For inference only: the copy has no weights to train or save.
    """
    layer = _LAYERS[precision]

    def replace(module: nn.Module) -> nn.Module | None:
        pack = getattr(module, "packed_by", None)
        return pack(layer) if pack is not None else _linear(module, layer)

    return _twin(model, replace)


def for_one_client(model: LanguageModel) -> LanguageModel:
    """A copy of `model` that computes single rows fast. All weights are shared.

    It takes milliseconds to make, and shows later changes of the weights. Elsewhere than on a CPU,
    in training mode, under autocast, with narrow weights, with rows of them in other processes or
    where something has to act before a module is called it is the model itself.
    """
    exact = model.final_norm.weight.dtype in (torch.float32, torch.float64)
    on_cpu = model.device.type == "cpu" and exact
    if not on_cpu or model.training or torch.is_autocast_enabled("cpu"):
        return model
    hooked = any(module._forward_pre_hooks for module in model.modules())
    if hooked or any(map(is_sharded, model.parameters())):
        return model
    return _twin(model, lambda module: _linear(module, PlainLinear))


def _linear(module: nn.Module, layer: MakeLinear) -> nn.Module | None:
    """`layer` with the weight of `module`; None for what is no plain linear layer."""
    if type(module) is Affine:
        return layer(module.weight.t(), module.bias)
    if type(module) is nn.Linear:
        return layer(module.weight, module.bias)
    return None


@torch.no_grad()
def _twin(model: LanguageModel, replace: Callable[[nn.Module], nn.Module | None]) -> LanguageModel:
    """A copy of the modules that hold others, around what `replace` gives for the innermost."""
    one_row = OneRow(model.dimensions, model.final_norm.weight)

    def copied(module: nn.Module) -> nn.Module:
        new = replace(module)
        if new is not None:
            return new
        children = dict(module.named_children())
        if not children:
            return module
        twin = _shallow(module)
        twin._modules = {name: copied(child) for name, child in children.items()}
        return one_row.of(twin) or twin

    twin = copied(model)
    assert isinstance(twin, LanguageModel)
    return twin


def _shallow(module: _Module) -> _Module:
    """The same module with the same parameters, buffers and settings."""
    twin = copy.copy(module)
    for name in ("_parameters", "_buffers"):
        setattr(twin, name, dict(getattr(module, name)))
    return twin
