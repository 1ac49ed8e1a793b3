"""A model's sizes with every default filled in. Loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.errors import UserError
from trainer.config.lora import lora_alpha, lora_targets
from trainer.config.model import ModelConfig

#: The longest context of a model from elsewhere, in tokens: the rotary table covers all of it.
MAX_CONTEXT = 1 << 20


@dataclass(frozen=True)
class Dimensions:
    """V vocabulary, D width, F feed-forward width, L layers, H heads, K key-value heads, C channels
    of a head, T positions."""

    V: int
    D: int
    F: int
    L: int
    H: int
    K: int
    C: int
    T: int


def dimensions(model: ModelConfig) -> Dimensions:
    """Fill in what the configuration leaves open. Raises UserError without a vocabulary size."""
    if model.vocab_size is None:
        raise UserError(
            "model.vocab_size is unknown; set it, or use data with a tokenizer (prepare-data)."
        )
    width = model.hidden_size
    feed_forward = model.intermediate_size
    if feed_forward is None:
        # 8/3 keeps SwiGLU's three matrices as large as the two of a 4x GELU layer.
        feed_forward = 4 * width if model.flavour == "gpt2" else math.ceil(8 * width / 3 / 64) * 64
    return Dimensions(
        V=model.vocab_size,
        D=width,
        F=feed_forward,
        L=model.num_layers,
        H=model.num_heads,
        K=model.num_kv_heads or model.num_heads,
        C=model.head_dim or width // model.num_heads,
        T=model.max_seq_len,
    )


def complete(model: ModelConfig) -> ModelConfig:
    """`model` with its sizes written out. Raises UserError without a vocabulary size."""
    n = dimensions(model)
    sizes: dict[str, object] = {"intermediate_size": n.F, "num_kv_heads": n.K, "head_dim": n.C}
    if model.lora_r:
        sizes |= {"lora_alpha": lora_alpha(model), "lora_targets": list(lora_targets(model))}
    return model.model_copy(update=sizes)
