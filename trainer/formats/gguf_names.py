"""Tensors of llama.cpp's architectures: their names and layouts, from ours and back to ours.

Our names and layouts are transformers'. llama.cpp has other names, and two layouts differ: GPT-2's
matrices are (in, out) in our files and (out, in) in GGUF; and the `llama` architecture rotates
adjacent channels where we rotate a channel and the one half a head away, so the rows of its query
and key matrices have another order, and so have their biases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.model.dimensions import dimensions
from trainer.model.shapes import parameter_shapes

Architecture = Literal["llama", "qwen2", "qwen3", "gpt2"]
Layout = Literal["same", "transposed", "interleaved"]
Array = NDArray[Any]

_GLOBAL = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
}
_LLAMA_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GPT2_LAYER = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}

_LAYER = re.compile(r"^blk\.\d+\.")


@dataclass(frozen=True)
class GGUFTensor:
    """One tensor under both conventions.

    `name` and `shape` are those of our state dict, `gguf_name` is llama.cpp's; `heads` is the
    number of heads of an interleaved tensor.
    """

    name: str
    gguf_name: str
    shape: tuple[int, ...]
    layout: Layout = "same"
    heads: int = 1

    @property
    def gguf_shape(self) -> tuple[int, ...]:
        """The shape in GGUF, rows first as in numpy (the file has the reverse order)."""
        return self.shape[::-1] if self.layout == "transposed" else self.shape

    def to_gguf(self, weight: Array) -> Array:
        """Our array in GGUF's layout."""
        if self.layout == "transposed":
            return weight.T
        if self.layout == "interleaved":
            # Within a head: (2, C/2) halves become (C/2, 2) pairs.
            halves = weight.reshape(self.heads, 2, -1, *weight.shape[1:])
            return halves.swapaxes(1, 2).reshape(weight.shape)
        return weight

    def from_gguf(self, weight: Array) -> Array:
        """GGUF's array in our layout."""
        if self.layout == "transposed":
            return weight.T
        if self.layout == "interleaved":
            pairs = weight.reshape(self.heads, -1, 2, *weight.shape[1:])
            return pairs.swapaxes(1, 2).reshape(weight.shape)
        return weight


def architecture(model: ModelConfig) -> Architecture:
    """llama.cpp's name of the architecture (`general.architecture`)."""
    if model.flavour == "gpt2":
        return "gpt2"
    if model.qk_norm:
        return "qwen3"
    # Only `llama` knows factors of rotary frequencies; a bias is optional there.
    scaled = model.rope_scaling == "llama3"
    return "qwen2" if model.attention_bias == "qkv" and not scaled else "llama"


def check_architecture(model: ModelConfig) -> None:
    """Raise UserError for a shape that no architecture of llama.cpp has."""
    lacks = []
    if model.qk_norm and model.attention_bias != "none":
        lacks.append("biases of attention")
    if model.qk_norm and model.rope_scaling == "llama3":
        lacks.append("rotary scaling of the kind llama3")
    if lacks:
        raise UserError(
            f"{model.name} cannot be a GGUF file: llama.cpp's qwen3 has no {' and no '.join(lacks)}"
            "; --hf writes it as it is."
        )


def gguf_tensors(model: ModelConfig, kind: Architecture | None = None) -> list[GGUFTensor]:
    """Every tensor of `model`, in state-dict order. A tied output head has no tensor.

    `kind` is the architecture of the file, by default the one written here.
    """
    kind = kind or architecture(model)
    return [_named(model, kind, name, shape) for name, shape in parameter_shapes(model).items()]


def in_any_layer(gguf_name: str) -> str:
    """The name shared by the corresponding tensors of all layers: `blk.*.attn_q.weight`."""
    return _LAYER.sub("blk.*.", gguf_name)


def _named(model: ModelConfig, kind: Architecture, name: str, shape: tuple[int, ...]) -> GGUFTensor:
    module, _, role = name.rpartition(".")
    if module in _GLOBAL:
        return GGUFTensor(name, f"{_GLOBAL[module]}.{role}", shape)
    prefix, names = (
        ("transformer.h.", _GPT2_LAYER)
        if model.flavour == "gpt2"
        else ("model.layers.", _LLAMA_LAYER)
    )
    layer, _, part = module.removeprefix(prefix).partition(".")
    gguf_name = f"blk.{layer}.{names[part]}.{role}"
    if model.flavour == "gpt2" and len(shape) == 2:
        return GGUFTensor(name, gguf_name, shape, "transposed")
    if kind == "llama" and part in ("self_attn.q_proj", "self_attn.k_proj"):
        n = dimensions(model)
        heads = n.H if part == "self_attn.q_proj" else n.K
        return GGUFTensor(name, gguf_name, shape, "interleaved", heads)
    return GGUFTensor(name, gguf_name, shape)
