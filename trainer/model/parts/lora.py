"""LoRA: small adapters are trained in place of the weights (Hu et al. 2021, arXiv 2106.09685).

    y = x W + alpha / r  (dropout(x) A) B        A (in, r), B (r, out)

Everything but A and B is frozen and comes from a base model. A begins as PEFT's does, uniform in
+-1 / sqrt(in); B begins as 0, so that the first step has the base model.

Training may keep the frozen matrices in bf16, half the memory. They are widened where they are
used, so the arithmetic is that of the activations, and nothing wide is kept for the backward pass.
Norms and biases stay in fp32.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.checkpoints.catalogue import ADAPTER
from shared.errors import UserError
from shared.text import one_line
from trainer.config.lora import lora_alpha, lora_targets
from trainer.config.model import ModelConfig
from trainer.config.schema import Config
from trainer.config.section import Section
from trainer.model.dimensions import dimensions
from trainer.model.gpt2 import Affine
from trainer.model.parts.interface import Kept, Part, Plain, Weights
from trainer.sharded import put

if TYPE_CHECKING:
    from trainer.model.language_model import LanguageModel

_OWN = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
_BLOCK = re.compile(r"(model\.layers|transformer\.h)\.\d+\.(?P<path>.+)")

#: Makes the parameter that is kept in the place of a frozen one.
Keep = Callable[[nn.Parameter], nn.Parameter]


class _Widened(torch.autograd.Function):
    """x @ weight.T + bias in the type of x. Only the narrow weight is kept for the backward
    pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return F.linear(x, weight.to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return gradients[0] @ weight.to(gradients[0].dtype), None, None


class Frozen(nn.Module):
    """A linear layer that is not trained. `transposed`: its weight is stored (in, out)."""

    def __init__(
        self, weight: nn.Parameter, bias: nn.Parameter | None, *, transposed: bool
    ) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.transposed = transposed

    @property
    def sizes(self) -> tuple[int, int]:
        """How many numbers go in, and how many come out."""
        rows, columns = self.weight.shape
        return (rows, columns) if self.transposed else (columns, rows)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.t() if self.transposed else self.weight
        if weight.dtype == x.dtype or torch.is_autocast_enabled(x.device.type):
            return F.linear(x, weight, self.bias)
        # Flat, since what a function of its own returns must not be a view: it is added to.
        flat: Tensor = _Widened.apply(x.flatten(0, -2), weight, self.bias)
        return flat.unflatten(0, x.shape[:-1])


class Adapted(Frozen):
    """A frozen linear layer with an adapter."""

    def __init__(self, frozen: Frozen, rank: int, scale: float, dropout: float) -> None:
        super().__init__(frozen.weight, frozen.bias, transposed=frozen.transposed)
        inputs, outputs = self.sizes
        self.lora_A = nn.Linear(inputs, rank, bias=False)
        self.lora_B = nn.Linear(rank, outputs, bias=False)
        self.scale = scale
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        kept = F.dropout(x, self.dropout, self.training)
        # In place: what is freed between kept tensors is memory that a CPU's allocator wastes.
        return super().forward(x).add_(self.lora_B(self.lora_A(kept)), alpha=self.scale)

    def change(self) -> Tensor:
        """How large the adapter's product is beside the weight: a ratio of Frobenius norms."""
        a, b = self.lora_A.weight.float(), self.lora_B.weight.float()
        # |B A|^2 = tr(B^T B A A^T), which needs no matrix of the weight's size.
        square = ((b.T @ b) * (a @ a.T)).sum().clamp(min=0)
        return self.scale * square.sqrt() / self.weight.float().norm()


class FrozenEmbedding(nn.Embedding):
    """An embedding that is not trained; its vectors are fp32, so that the residual stream is."""

    def __init__(self, weight: nn.Parameter) -> None:
        count, width = weight.shape
        super().__init__(count, width, device="meta")
        self.weight = weight

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight).float()


class LoraSettings(Section):
    """The rank, alpha, the adapted layers of a block, dropout, and the type of the base."""

    r: int
    alpha: float
    targets: tuple[str, ...]
    dropout: float
    base: Literal["bf16", "fp32"]

    @property
    def scale(self) -> float:
        """What an adapter's product is multiplied by."""
        return self.alpha / self.r


class Lora(Part):
    """Adapters on frozen weights, switched on by `model.lora_r`."""

    name = "lora"
    title = "LoRA adapters"
    weights_file = ADAPTER
    on_base = True

    def settings(self, model: ModelConfig) -> LoraSettings | None:
        """From the keys `lora_…` of the model."""
        if self.name in model.parts:
            raise UserError("model.parts has lora; set model.lora_r instead.")
        if not model.lora_r:
            return None
        return LoraSettings(
            r=model.lora_r,
            alpha=lora_alpha(model),
            targets=lora_targets(model),
            dropout=model.lora_dropout,
            base=model.lora_base,
        )

    def without(self, model: ModelConfig) -> ModelConfig:
        """The base model."""
        fields = ModelConfig.model_fields
        off = {key: field.default for key, field in fields.items() if key.startswith("lora_")}
        return model.model_copy(update=off)

    def describe(self, model: ModelConfig) -> str:
        """With rank, alpha and layers."""
        named = ", ".join(path.rpartition(".")[2] for path in lora_targets(model))
        return f"LoRA of rank {model.lora_r} (alpha {lora_alpha(model):g}) on {named}"

    def notes(self, config: Config) -> Iterator[str]:
        """A base that is a checkpoint of another run."""
        begun = config.checkpoint.begin_from
        if begun is not None and Path(begun).parent.name == "checkpoints":
            yield (
                f"The adapters do not contain their base, {one_line(begun)}: keep it until "
                "they are merged (trainer export --merge)"
            )

    def build(self, model: LanguageModel) -> None:
        """Freeze the model and put adapters beside its linear layers."""
        own = self._own(model.config)
        keep = _keeper(torch.bfloat16 if own.base == "bf16" else torch.float32)
        for parent_name, parent in list(model.named_modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Embedding):
                    setattr(parent, name, FrozenEmbedding(keep(cast("nn.Parameter", child.weight))))
                elif isinstance(child, (nn.Linear, Affine)):
                    weight, bias = (
                        cast("nn.Parameter | None", p) for p in (child.weight, child.bias)
                    )
                    assert weight is not None
                    layer = Frozen(
                        keep(weight),
                        None if bias is None else keep(bias),
                        transposed=isinstance(child, Affine),
                    )
                    block = _BLOCK.fullmatch(f"{parent_name}.{name}")
                    if block and block["path"] in own.targets:
                        layer = Adapted(layer, own.r, own.scale, own.dropout)
                    setattr(parent, name, layer)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self.owns(name))

    def kept(self, model: ModelConfig, width: int) -> Kept:
        """Less than a model whose own weights are trained, but for what the adapters keep."""
        n = dimensions(model)
        per_token = width * (_kept_by_adapters(model, width) - _kept_by_layers(model, width))
        whole = -4 * n.V * n.D if model.tie_embeddings else 0  # one of two gradients
        if model.lora_base == "bf16" and width == 4:
            whole += 4 * n.V * n.D  # the largest matrix, while it is widened
        return Kept(per_token, whole, scattered=False)

    def owns(self, name: str) -> bool:
        """The matrices A and B."""
        return _OWN.fullmatch(name) is not None

    def initialize(self, model: LanguageModel, generator: torch.Generator) -> None:
        """A uniform, as PEFT's kaiming_uniform_(a=sqrt(5)) comes to; B is 0."""
        for name, parameter in model.named_parameters():
            if name.endswith(".lora_B.weight"):
                parameter.zero_()
            elif self.owns(name):
                bound = 1 / math.sqrt(parameter.shape[1])
                values = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
                put(parameter, values)

    def measure(self, model: LanguageModel, ids_1T: Tensor) -> dict[str, float]:
        """The mean size of what the adapters add, relative to the weights."""
        layers = [module for module in model.modules() if isinstance(module, Adapted)]
        return {"lora_change": float(torch.stack([layer.change() for layer in layers]).mean())}

    def fold(self, model: ModelConfig, weights: Weights) -> Plain:
        """The adapters merged into the base's weights, in fp32."""
        base = {name: value for name, value in weights.items() if not self.owns(name)}
        note = f"The adapters are merged into the weights of their base, {model.name}."
        return Plain(self.without(model), base | dict(merge(model, base, weights)), note)

    def _own(self, model: ModelConfig) -> LoraSettings:
        own = self.settings(model)
        assert own is not None
        return own


def merge(
    model: ModelConfig, base: Mapping[str, Tensor], adapters: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """The names and values of the base's weights that the adapters change, computed in fp32.

    `model` is the model with adapters.
    """
    scale = lora_alpha(model) / model.lora_r
    for name, a in adapters.items():
        found = _OWN.fullmatch(name)
        if not found or found["side"] == "B":
            continue
        b = adapters[f"{found['layer']}.lora_B.weight"]
        target = f"{found['layer']}.weight"
        weight = base[target]
        product = scale * (b.float() @ a.float())
        if model.flavour == "gpt2":  # stored (in, out)
            product = product.T
        yield target, (weight.float() + product).to(weight.dtype)


def _keeper(dtype: torch.dtype) -> Keep:
    """Frozen parameters in place of others: matrices in `dtype`. Tied ones stay tied.

    Their values come from the base model later, so none are copied.
    """
    made: dict[int, nn.Parameter] = {}

    def keep(parameter: nn.Parameter) -> nn.Parameter:
        if id(parameter) not in made:
            kind = dtype if parameter.ndim >= 2 else parameter.dtype
            # Not `empty_like`, which on the meta device loads the compiler.
            values = torch.empty(parameter.shape, dtype=kind, device=parameter.device)
            made[id(parameter)] = nn.Parameter(values, requires_grad=False)
        return made[id(parameter)]

    return keep


#: The linear layers that read a norm's output; the others read what is narrow under autocast.
_BEHIND_NORMS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "c_attn", "c_fc")


def _kept_by_layers(model: ModelConfig, width: int) -> int:
    """Numbers per token that a block's linear layers keep of their inputs when they are trained,
    without those that are kept anyway. `width`: bytes of an activation."""
    n = dimensions(model)
    casts = 3 * n.D if width == 2 and model.flavour == "llama" else 0
    return 2 * n.D + n.F + casts


def _kept_by_adapters(model: ModelConfig, width: int) -> int:
    """The same when they are frozen and some have adapters, whose own numbers count too."""
    n, dropout = dimensions(model), bool(model.lora_dropout)
    kept, shared = 0, set()
    for path in lora_targets(model):
        place, _, name = path.rpartition(".")
        behind_norm = name in _BEHIND_NORMS
        # Of the others: the feed-forward's product; the result of attention is kept anyway.
        size = n.D if behind_norm else n.F if place == "mlp" else 0
        # One input for all layers behind a norm, unless it is cast or dropped for each.
        if not behind_norm or width == 2 or dropout or place not in shared:
            kept += size
        shared.add(place)
        kept += model.lora_r  # between A and B
        if dropout:
            size = size or n.H * n.C
            # The mask, in the input's type; and the input itself, which is not what A reads.
            kept += (2 if width == 2 and behind_norm else 1) * size
            kept += size if name == "o_proj" or path == "attn.c_proj" else 0
    return kept
