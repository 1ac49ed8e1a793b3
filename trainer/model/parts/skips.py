"""Learned skips: every block reads a weighted sum of all earlier outputs.

Depth-weighted averages as in DenseFormer (Pagliardini et al. 2024, arXiv 2402.02622): with X_0 the
embedding and X_i the output of block i, block i + 1 reads

    sum_j a_ij X_j,    j = 0 ... i

which starts as X_i alone, the plain model. A cheap rival of hyper-connections: L^2 / 2 numbers in
all, and memory for the outputs of all blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.config.section import Section
from trainer.model.dimensions import dimensions
from trainer.model.llama import Block
from trainer.model.parts.interface import Kept, Part

if TYPE_CHECKING:
    from trainer.model.inference.cache import Cache
    from trainer.model.language_model import LanguageModel
    from trainer.model.rotary import Rotary

#: The outputs so far, X_0 to X_i, the last of them already averaged.
Outputs = tuple[Tensor, ...]


class SkipBlock(nn.Module):
    """A block, and the average after it. The last one gives (B, T, D) back to the body."""

    def __init__(self, block: Block, before: int, *, last: bool) -> None:
        super().__init__()
        self.last = last
        for name, child in block.named_children():
            self.add_module(name, child)
        self.skip_weights = nn.Parameter(torch.zeros(before + 2))

    def forward(self, x: Tensor | Outputs, rotary: Rotary, cache: Cache | None) -> Tensor | Outputs:
        outputs = (x,) if isinstance(x, Tensor) else x
        outputs = (*outputs, Block.forward(cast("Block", self), outputs[-1], rotary, cache))
        average = sum(w * output for w, output in zip(self.skip_weights, outputs, strict=True))
        assert isinstance(average, Tensor)
        return average if self.last else (*outputs[:-1], average)


class Skips(Part):
    """Learned skips from earlier layers, switched on by `model.parts: {skips: {}}`."""

    name = "skips"
    title = "learned skips"
    model_type = "trainer_skips"
    architecture = "TrainerSkipsForCausalLM"

    def settings(self, model: ModelConfig) -> Section | None:
        """None are there. Raises UserError where the part does not fit the model."""
        own = super().settings(model)
        if own is not None and model.flavour != "llama":
            raise UserError("model.parts.skips is not available in the gpt2 flavour.")
        if own is not None and model.hyper_streams:
            raise UserError(
                "model.parts.skips and model.hyper_streams both replace the residual; leave one "
                "of them out."
            )
        return own

    def build(self, model: LanguageModel) -> None:
        """Put an average after every block."""
        layers = model.model.layers
        for i, block in enumerate(layers):
            layers[i] = SkipBlock(cast("Block", block), i, last=i + 1 == len(layers))

    def kept(self, model: ModelConfig, width: int) -> Kept:
        """The output of every block, in fp32."""
        return Kept(4 * dimensions(model).D, lasting=True)

    def owns(self, name: str) -> bool:
        """The weights of the averages."""
        return name.endswith(".skip_weights")

    def initialize(self, model: LanguageModel, generator: torch.Generator) -> None:
        """Only the block's own output counts."""
        for name, parameter in model.named_parameters():
            if self.owns(name):
                parameter.zero_()
                parameter[-1] = 1.0

    def measure(self, model: LanguageModel, ids_1T: Tensor) -> dict[str, float]:
        """The mean absolute weight of earlier outputs, relative to that of the newest."""
        found = [p for name, p in model.named_parameters() if self.owns(name)]
        earlier = torch.stack([weights[:-1].abs().mean() for weights in found]).mean()
        return {"skips_earlier": float(earlier / torch.stack([w[-1].abs() for w in found]).mean())}
