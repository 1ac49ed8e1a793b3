"""Weights packed for inference on a CPU, where reading them takes most of the time.

For a few rows, torch's matrix product reorders the weights in every call. With the weights packed
once, a product of 8 rows takes half the time. `fp16` keeps the packed weights in half precision
and computes in fp32: half the bytes to read, and logits differ by about 1e-3 relative.
(There is no int8: the activations of a batch share one scale, so a text would depend on others.)
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.model.gpt2 import Affine
from trainer.model.language_model import LanguageModel

Precision = Literal["fp32", "fp16"]

#: The number of rows the layout is optimized for; measured to be good from 1 to 128.
ROWS = 8


class PackedLinear(nn.Module):
    """x @ weight.T + bias by oneDNN, with the weight in oneDNN's own layout, fp32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.bias = bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


class HalfLinear(nn.Module):
    """x @ weight.T + bias by FBGEMM: weight in fp16, everything else in fp32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.packed = torch.ops.quantized.linear_prepack_fp16(weight.contiguous(), bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic_fp16(x, self.packed)


_LAYERS: dict[Precision, Callable[[Tensor, Tensor | None], nn.Module]] = {
    "fp32": PackedLinear,
    "fp16": HalfLinear,
}


@functools.cache
def can_pack(precision: Precision) -> bool:
    """Whether this torch and this processor have the kernels. Tries one small product."""
    try:
        with torch.inference_mode():
            _LAYERS[precision](torch.ones(8, 8), None)(torch.ones(1, 8))
    except (AttributeError, RuntimeError):
        return False
    return True


@torch.no_grad()
def packed(model: LanguageModel, precision: Precision) -> LanguageModel:
    """A copy of `model` (on a CPU, fp32) with every matrix packed. All else is shared with it.

    For inference only: the copy has no weights to train or save.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)
    layer = _LAYERS[precision]
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            pack = getattr(child, "packed_by", None)
            if pack is not None:
                setattr(parent, name, pack(layer))
            elif isinstance(child, Affine):
                setattr(parent, name, layer(child.weight.detach().t(), child.bias.detach()))
            elif isinstance(child, nn.Linear):
                bias = None if child.bias is None else child.bias.detach()
                setattr(parent, name, layer(child.weight.detach(), bias))
    return twin
