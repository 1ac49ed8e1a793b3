"""Ternary weights, as in BitNet b1.58 (Ma et al. 2024, arXiv 2402.17764).

The linear layers of the blocks compute with -s, 0 and s in place of their weights W, and with
inputs of 8 bits:

    s  = mean |W|, of the matrix or of a group within a row, rounded to bf16
    W' = s clip(round(W / s), -1, 1)
    a  = max |x| / 127, of each token
    x' = a round(x / a)
    y  = W' x'

Gradients pass straight through both roundings to full-precision weights, which are what is updated
and saved. Embeddings, norms and the output head are not rounded.

GGUF's ternary types store the scale as float16. A scale of bf16 that is not too small is exact in
float16 too, so what was trained is what an export holds, bit for bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.config.schema import Config
from trainer.config.section import Count, Section
from trainer.model.dimensions import dimensions
from trainer.model.parts.interface import Json, Kept, Part, Plain, Weights
from trainer.sharded import whole

if TYPE_CHECKING:
    from trainer.model.language_model import LanguageModel

#: The smallest scale: below it float16 has fewer bits than bf16.
SMALLEST_SCALE = 2.0**-14
#: Weights of a block in TQ1_0 and TQ2_0, and in the type that takes the other rows.
TQ_BLOCK, Q4_BLOCK = 256, 32
BEGUN = "ternary_begun"
_LAYER = re.compile(r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight")
_LEVELS = 127  # of an input's magnitude


def scales(weight: Tensor, group: int | None) -> Tensor:
    """The scale of every weight (O, I), as (1, 1, 1) or (O, I / group, 1)."""
    grouped = _grouped(weight, group).abs()
    mean = grouped.mean(dim=-1, keepdim=True) if group else grouped.mean().view(1, 1, 1)
    return mean.clamp(min=SMALLEST_SCALE).to(torch.bfloat16).to(weight.dtype)


def ternary(weight: Tensor, group: int | None) -> Tensor:
    """`weight` (O, I) rounded to -s, 0 or s."""
    scale = scales(weight, group)
    return ((_grouped(weight, group) / scale).round().clamp(-1, 1) * scale).view_as(weight)


def eight_bits(x: Tensor) -> Tensor:
    """`x` (..., I) rounded to 255 levels per token, in fp32 at least."""
    wide = x if x.dtype == torch.float64 else x.float()
    step = wide.abs().amax(dim=-1, keepdim=True).clamp(min=1e-5) / _LEVELS
    return (wide / step).round() * step


def _grouped(weight: Tensor, group: int | None) -> Tensor:
    return weight.unflatten(-1, (-1, group or weight.shape[-1]))


class _StraightThrough(torch.autograd.Function):
    """The rounded value forward, the gradient of the identity backward (Bengio et al. 2013).

    `x + (rounded - x).detach()` would round once more.
    """

    @staticmethod
    def forward(ctx: object, x: Tensor, rounded: Tensor) -> Tensor:
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def straight_through(x: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
    """`rounding(x)` with the gradient of x."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return rounding(x)
    with torch.no_grad():
        rounded = rounding(x)
    return _StraightThrough.apply(x, rounded)


class BitLinear(nn.Linear):
    """A linear layer that computes with ternary weights; its bias, if any, stays as it is.

    `begun` is a scalar on the weight's device, shared by all layers: until it is 1, nothing is
    rounded. None means that it has begun.
    """

    def __init__(
        self,
        weight: nn.Parameter,
        group: int | None,
        *,
        activations: bool,
        begun: Tensor | None,
        bias: nn.Parameter | None = None,
    ) -> None:
        outputs, inputs = weight.shape
        super().__init__(inputs, outputs, bias=False, device="meta")
        self.weight = weight
        self.register_parameter("bias", bias)
        self.group = group
        self.activations = activations
        self._begun = (begun,)  # in a tuple it is not registered as the layer's own
        self._kept: tuple[object, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.activations:
            x = straight_through(x, self._rounded_input)
        return F.linear(x, self._computing_weight(), self.bias)

    def train(self, mode: bool = True) -> BitLinear:
        """Training needs no copy of the rounded weight."""
        self._kept = None
        super().train(mode)
        return self

    def rounded(self, weight: Tensor | None = None) -> Tensor:
        """The weight that it computes with, (O, I), in place of its own or of `weight`."""
        return self._rounded_weight(self.weight.detach() if weight is None else weight)

    def packed_by(self, layer: Callable[[Tensor, Tensor | None], nn.Module]) -> nn.Module:
        """The same for inference, with its weight in the layout of `layer`."""
        product = layer(self.rounded(), None if self.bias is None else self.bias.detach())
        (begun,) = self._begun
        rounds = self.activations and (begun is None or bool(begun))
        return _RoundedInput(product) if rounds else product

    def _computing_weight(self) -> Tensor:
        # What FSDP gathers for a block is to be freed after it: no copy of it may stay.
        gathered = getattr(self, "_is_fsdp_managed_module", False)
        if self.training or torch.is_grad_enabled() or gathered:
            return straight_through(self.weight, self._rounded_weight)
        (begun,) = self._begun
        tensors = (self.weight,) if begun is None else (self.weight, begun)
        now = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        if self._kept is None or self._kept[0] != now:
            self._kept = (now, self._rounded_weight(self.weight))
        return self._kept[1]

    def _rounded_weight(self, weight: Tensor) -> Tensor:
        return self._if_begun(ternary(weight, self.group), weight)

    def _rounded_input(self, x: Tensor) -> Tensor:
        return self._if_begun(eight_bits(x), x)

    def _if_begun(self, rounded: Tensor, plain: Tensor) -> Tensor:
        # On the device, so that nothing waits for it.
        (begun,) = self._begun
        return rounded if begun is None else torch.where(begun > 0, rounded, plain.to(rounded))


class _RoundedInput(nn.Module):
    """A packed product of rounded inputs."""

    def __init__(self, product: nn.Module) -> None:
        super().__init__()
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        return self.product(eight_bits(x))


class TernarySettings(Section):
    """`group` weights share a scale (None: all); `begins` after that share of all steps."""

    group: Count | None
    activations: bool
    begins: float


class Ternary(Part):
    """Ternary weights in every linear layer of the blocks, switched on by `model.ternary`."""

    name = "ternary"
    title = "ternary weights"
    model_type = "trainer_ternary"
    architecture = "TrainerTernaryForCausalLM"

    def settings(self, model: ModelConfig) -> TernarySettings | None:
        """From the keys `ternary…` of the model."""
        if self.name in model.parts:
            raise UserError("model.parts has ternary; set model.ternary instead.")
        if not model.ternary:
            return None
        for key, row in _rows(model):
            if model.ternary_group and row % model.ternary_group:
                raise UserError(
                    f"model.ternary_group {model.ternary_group} does not divide rows of {row} "
                    f"({key}); choose a group that divides every row, such as {Q4_BLOCK}."
                )
        return TernarySettings(
            group=model.ternary_group,
            activations=model.ternary_activations,
            begins=model.ternary_from,
        )

    def without(self, model: ModelConfig) -> ModelConfig:
        """Full precision."""
        return model.model_copy(update=_OFF)

    def notes(self, config: Config) -> Iterator[str]:
        """What GGUF cannot hold as ternary, and decay, which breaks ternary training."""
        group = config.model.ternary_group
        if group and group % TQ_BLOCK:
            fits = "as Q4_0, exactly" if group % Q4_BLOCK == 0 else "only as F16"
            yield (
                f"TQ1_0 and TQ2_0 hold one scale per {TQ_BLOCK} weights, so with "
                f"model.ternary_group {group} the weights are exported {fits}"
            )
        else:
            odd = [f"{row} ({key})" for key, row in _rows(config.model) if row % TQ_BLOCK]
            if odd:
                yield (
                    f"Rows of {' and '.join(odd)} are not multiples of {TQ_BLOCK}, as TQ1_0 and "
                    "TQ2_0 need: these matrices are exported as Q4_0 or F16, exactly"
                )
        if config.optim.weight_decay:
            yield (
                f"optim.weight_decay {config.optim.weight_decay:g} pulls the weights behind "
                "ternary ones towards 0, where their signs are noise; 0 is better"
            )

        if config.optim.ema_decay is not None or config.optim.tail_start is not None:
            yield (
                "An average of the weights behind ternary ones rounds to other signs than any of "
                "them; expect a worse model from optim.ema_decay and optim.tail_start"
            )

    def build(self, model: LanguageModel) -> None:
        """Replace the linear layers of the blocks."""
        own = self.settings(model.config)
        assert own is not None
        begun = None
        if own.begins:
            begun = nn.Parameter(torch.zeros(()), requires_grad=False)
            model.register_parameter(BEGUN, begun)
        for block in model.model.layers:
            for parent in list(block.modules()):
                for name, child in list(parent.named_children()):
                    if isinstance(child, nn.Linear):
                        layer = BitLinear(
                            cast("nn.Parameter", child.weight),
                            own.group,
                            activations=own.activations,
                            begun=begun,
                            bias=child.bias,
                        )
                        setattr(parent, name, layer)

    def kept(self, model: ModelConfig, width: int) -> Kept:
        """Rounded weights, and rounded inputs of each layer apart.

        With bf16 they are rounded before the cast that a plain layer has, too.
        """
        if width < 4:
            return Kept()
        n = dimensions(model)
        inputs = 3 * n.D + n.H * n.C if model.ternary_activations else 0
        matrices = n.D * (2 * n.H * n.C + 2 * n.K * n.C + 3 * n.F)
        return Kept(4 * inputs, 4 * n.L * matrices)

    def owns(self, name: str) -> bool:
        """The mark that rounding has begun."""
        return name == BEGUN

    def initialize(self, model: LanguageModel, generator: torch.Generator) -> None:
        """Rounding has not begun."""
        self.begin_run(model)

    @torch.no_grad()
    def begin_run(self, model: LanguageModel) -> None:
        """Rounding begins at the new run's own step."""
        if model.config.ternary_from:
            model.get_parameter(BEGUN).zero_()

    @torch.no_grad()
    def before_step(self, model: LanguageModel, step: int, steps: int) -> str | None:
        """Begin when the share of the steps is reached."""
        first = int(model.config.ternary_from * steps) + 1
        if not model.config.ternary_from or step < first:
            return None
        begun = model.get_parameter(BEGUN)
        if begun.item():  # the loop has waited for the last step anyway
            return None
        begun.fill_(1.0)
        return f"The weights are ternary from step {step} on"

    def measure(self, model: LanguageModel, ids_1T: Tensor) -> dict[str, float]:
        """The share of zeros, and the mean scale."""
        layers = [module for module in model.modules() if isinstance(module, BitLinear)]
        zeros = scale = 0.0
        for layer in layers:
            weight = whole(layer.weight.detach())
            zeros += float((layer.rounded(weight) == 0).sum())
            scale += float(scales(weight, layer.group).mean())
        return {
            "ternary_zeros": zeros / sum(layer.weight.numel() for layer in layers),
            "ternary_scale": scale / len(layers),
        }

    def words(self, model: ModelConfig) -> Json:
        """Its settings."""
        return {key: getattr(model, key) for key in _OFF}

    def fields(self, config: Json) -> Json:
        """Its settings. All of them are there, or the weights would be rounded otherwise."""
        if config.get("model_type") == self.model_type or "ternary" in config:
            return {key: config[key] for key in _OFF}
        return {}

    def fold(self, model: ModelConfig, weights: Weights) -> Plain:
        """The rounded weights in a plain model."""
        begun = not model.ternary_from or bool(weights[BEGUN])
        folded = {name: value for name, value in weights.items() if name != BEGUN}
        if not begun:
            return Plain(self.without(model), folded, "Its weights are not ternary yet.")
        for name, weight in folded.items():
            if _LAYER.fullmatch(name):
                folded[name] = ternary(weight.float(), model.ternary_group).to(weight.dtype)
        note = "The weights are those that it computes with, which are ternary."
        if model.ternary_activations:
            note += (
                " It was trained with inputs of 8 bits: llama.cpp rounds them too, in its way; "
                "transformers does not."
            )
        return Plain(self.without(model), folded, note)


_OFF: Json = {
    "ternary": False,
    "ternary_from": 0.0,
    "ternary_group": None,
    "ternary_activations": True,
}


def _rows(model: ModelConfig) -> list[tuple[str, int]]:
    """The widths of the inputs of the linear layers, with the keys that set them."""
    n = dimensions(model.model_copy(update={"vocab_size": model.vocab_size or 1}))
    rows = {n.H * n.C: "heads x head_dim", n.F: "intermediate_size", n.D: "hidden_size"}
    return [(key, row) for row, key in rows.items()]
