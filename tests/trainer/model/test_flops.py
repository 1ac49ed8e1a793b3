"""The FLOPs that MFU is computed from, against torch's own count of a forward and backward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trainer.config.model import ModelConfig
from trainer.model.estimates import flops_per_token
from trainer.model.language_model import LanguageModel

B, T = 2, 48
SHAPE: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_layers": 3,
    "num_heads": 4,
    "max_seq_len": T,
}


def counted(config: ModelConfig) -> float:
    """Per token, by torch. The math backend computes attention over all positions."""
    model = LanguageModel(config)
    model.initialize(0)
    model.train()
    ids = torch.randint(90, (B, T))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(ids, ids).total.backward()
    return counter.get_total_flops() / (B * T)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_embeddings": False},
        {"num_kv_heads": 2, "qk_norm": True},
        {"head_dim": 32},
        {"flavour": "gpt2"},
        {"mtp_heads": 2},
        {"mtp_heads": 1, "mtp_kind": "block"},
    ],
)
def test_the_formula_counts_the_matrix_products(changes: dict[str, Any]) -> None:
    config = ModelConfig(**(SHAPE | changes))
    assert flops_per_token(config, T) == pytest.approx(counted(config), rel=0.02)


def test_frozen_weights_count_less() -> None:
    """The first layer's input needs no gradient, and the formula counts one."""
    config = ModelConfig(**(SHAPE | {"lora_r": 4, "lora_base": "fp32", "num_layers": 6}))
    assert flops_per_token(config, T) == pytest.approx(counted(config), rel=0.08)
