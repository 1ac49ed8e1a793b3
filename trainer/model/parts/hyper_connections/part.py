"""Hyper-connections as a part of the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import Tensor

from shared.errors import UserError
from shared.text import one_line
from trainer.config.model import ModelConfig
from trainer.config.section import Section
from trainer.model.dimensions import dimensions
from trainer.model.parts.hyper_connections.folding import fold_hyper_connections
from trainer.model.parts.hyper_connections.mhc import (
    mhc_bytes,
    mhc_of_weights,
    mhc_weights,
    read_mhc,
)
from trainer.model.parts.hyper_connections.streams import MIXING, HyperBlock, HyperConnection
from trainer.model.parts.hyper_connections.watch import Watch
from trainer.model.parts.interface import Json, Kept, Part, Plain, Weights

if TYPE_CHECKING:
    import torch

    from trainer.model.language_model import LanguageModel
    from trainer.model.llama import Block


class MhcSidecar:
    """The scalars in a `.mhc` file, the weights in a GGUF that only this program runs."""

    architecture = "trainer-hyper"
    suffix = ".mhc"
    keys = ("hyper_streams",)

    def encode(self, model: ModelConfig, weights: Weights) -> bytes | None:
        """The `.mhc` file. A single stream has none: it always folds. Raises UserError."""
        if model.hyper_dynamic:
            raise UserError(
                f"The hyper-connections of {model.name} depend on the input, and a .mhc file holds "
                "constants only. `trainer generate` and `trainer serve` run the checkpoint itself; "
                "for an export train with model.hyper_dynamic: false."
            )
        if model.hyper_streams == 1:
            return None
        return mhc_bytes(mhc_of_weights(weights, model.hyper_streams))

    def decode(self, path: Path, model: ModelConfig) -> dict[str, Tensor]:
        """The scalars under their parameters' names."""
        layers = read_mhc(path)
        if (len(layers), layers[0].streams) != (2 * model.num_layers, model.hyper_streams):
            raise UserError(
                f"{one_line(path)} has {len(layers)} sub-layers of {layers[0].streams} streams, "
                f"and its model {2 * model.num_layers} of {model.hyper_streams}: they do not "
                "belong together."
            )
        return mhc_weights(layers)


class HyperSettings(Section):
    """`streams`: how many residual streams, 1, 2 or 4; `dynamic` maps depend on them."""

    streams: int
    dynamic: bool


class HyperConnections(Part):
    """n residual streams in place of one, switched on by `model.hyper_streams`."""

    name = "hyper_connections"
    title = "hyper-connections"
    model_type = "trainer_hyper"
    architecture = "TrainerHyperForCausalLM"
    sidecar = MhcSidecar()

    def settings(self, model: ModelConfig) -> HyperSettings | None:
        """From a key of its own, which configurations had before there were parts."""
        if self.name in model.parts:
            raise UserError("model.parts has hyper_connections; set model.hyper_streams instead.")
        if not model.hyper_streams:
            return None
        return HyperSettings(streams=model.hyper_streams, dynamic=model.hyper_dynamic)

    def without(self, model: ModelConfig) -> ModelConfig:
        """A plain residual."""
        return model.model_copy(update={"hyper_streams": 0, "hyper_dynamic": False})

    def describe(self, model: ModelConfig) -> str:
        """With the number of streams."""
        kind = "dynamic hyper-connections" if model.hyper_dynamic else "hyper-connections"
        return f"{kind} of {model.hyper_streams}"

    def build(self, model: LanguageModel) -> None:
        """Put every block's sub-layers between the streams."""
        layers = model.model.layers
        width = model.dimensions.D if model.config.hyper_dynamic else None
        for i, block in enumerate(layers):
            layers[i] = HyperBlock(
                cast("Block", block),
                model.config.hyper_streams,
                width,
                first=i == 0,
                last=i + 1 == len(layers),
            )

    def kept(self, model: ModelConfig, width: int) -> Kept:
        """The streams in fp32, and each sub-layer's output; with dynamic maps the streams side by
        side, as they are and normed, and each token's maps.
        """
        streams, D = model.hyper_streams, dimensions(model).D
        sublayer = 4 * streams * D + width * D
        if model.hyper_dynamic:
            mixing = MIXING[streams][1] if streams in MIXING else 0
            sublayer += (4 + width) * streams * D + 4 * (8 * streams + 2 * mixing)
        return Kept(2 * sublayer, input_token=4 * (streams - 1) * D)

    def owns(self, name: str) -> bool:
        """The scalars of the connections."""
        return "_hyper." in name

    def initialize(self, model: LanguageModel, generator: torch.Generator) -> None:
        """A plain residual whose streams are about to separate."""
        for connection in _connections(model):
            connection.start(generator)

    def measure(self, model: LanguageModel, ids_1T: Tensor) -> dict[str, float]:
        """How far the streams are apart, what they keep of themselves, and the gain of all layers.

        The separation is that of the last streams: the rms of their differences from the mean,
        divided by the rms of the mean.
        """
        watch = Watch(_connections(model))
        with watch:
            model.body(ids_1T)
        return watch.metrics()

    def words(self, model: ModelConfig) -> Json:
        """The number of streams, and whether the maps depend on them."""
        words: Json = {"hyper_streams": model.hyper_streams}
        return words | {"hyper_dynamic": True} if model.hyper_dynamic else words

    def fields(self, config: Json) -> Json:
        """The number of streams, and whether the maps depend on them."""
        if config.get("model_type") == self.model_type or "hyper_streams" in config:
            return {
                "hyper_streams": config["hyper_streams"],
                "hyper_dynamic": config.get("hyper_dynamic", False),
            }
        return {}

    def fold(self, model: ModelConfig, weights: Weights) -> Plain:
        """A plain Llama where the streams stay equal."""
        if model.hyper_dynamic:
            self.refuse_export(model)
        try:
            folded = fold_hyper_connections(weights, model)
        except UserError as error:
            raise UserError(
                f"{error} Other programs would leave them out and compute another model; --gguf "
                "with --mhc writes both for `trainer serve` and `trainer generate`."
            ) from error
        how = (
            "without any error"
            if folded.eps_error == 0
            else f"exactly but for the eps of norms, which is off by {folded.eps_error:.2g}"
        )
        note = f"The hyper-connections are folded into the weights, {how}."
        return Plain(folded.config, folded.weights, note)


def _connections(model: LanguageModel) -> list[HyperConnection]:
    """The connections of all sub-layers, in their order."""
    return [module for module in model.modules() if isinstance(module, HyperConnection)]
