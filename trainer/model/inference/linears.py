"""Matrix products of inference on a CPU, where reading the weights takes most of the time.

One row is a matrix-vector product with the plain weight, which reads it about as fast as memory
allows; a matrix product takes up to twice as long. For a few rows, torch's matrix product reorders
the weights in every call, so they are packed once: a product of 8 rows takes half the time. `fp16`
keeps the packed weights in half precision and computes in fp32: half the bytes to read, and logits
differ by about 1e-3 relative. (There is no int8: the activations of a batch share one scale, so a
text would depend on others.)

I numbers go in and O come out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: The number of rows the layout is optimized for; measured to be good from 2 to 128.
ROWS = 8


class RowLayer(Protocol):
    """A linear layer that computes a single row as a vector."""

    def row(self, x_I: Tensor, out: Tensor | None = None) -> Tensor:
        """One row, (O,); written into `out` where it is given."""

    def onto(self, base_O: Tensor, x_I: Tensor) -> Tensor:
        """`base_O` and the row, added."""


class PlainLinear(nn.Module):
    """x @ weight.T + bias with the weight (O, I) as it is, in any layout."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        # No parameters: the layer has nothing to train or save.
        self.weight, self.bias = weight.detach(), None if bias is None else bias.detach()

    def row(self, x_I: Tensor, out: Tensor | None = None) -> Tensor:
        if self.bias is None:
            return torch.mv(self.weight, x_I, out=out)
        return torch.addmv(self.bias, self.weight, x_I, out=out)

    def onto(self, base_O: Tensor, x_I: Tensor) -> Tensor:
        y_O = torch.addmv(base_O, self.weight, x_I)
        return y_O if self.bias is None else y_O.add_(self.bias)

    def rows(self, x: Tensor) -> Tensor:
        """Several rows, (..., O)."""
        return F.linear(x, self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() == x.shape[-1]:
            return self.row(x.reshape(-1)).view(*x.shape[:-1], -1)
        return self.rows(x)


class PackedLinear(PlainLinear):
    """The same; several rows by oneDNN, with the weight in oneDNN's own layout, fp32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)

    def rows(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


class HalfLinear(nn.Module):
    """x @ weight.T + bias by FBGEMM: weight in fp16, everything else in fp32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.packed = torch.ops.quantized.linear_prepack_fp16(weight.contiguous(), bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic_fp16(x, self.packed)


class RowOf:
    """Single rows of a layer that computes them as it does many."""

    def __init__(self, layer: Callable[[Tensor], Tensor]) -> None:
        self._layer = layer

    def row(self, x_I: Tensor, out: Tensor | None = None) -> Tensor:
        y_O = self._layer(x_I[None])[0]
        return y_O if out is None else out.copy_(y_O)

    def onto(self, base_O: Tensor, x_I: Tensor) -> Tensor:
        return base_O + self._layer(x_I[None])[0]


def row_layer(layer: nn.Module) -> RowLayer:
    """`layer`, or what computes single rows with it."""
    return layer if isinstance(layer, PlainLinear) else RowOf(layer)
