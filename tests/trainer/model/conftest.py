"""The shapes every property of the model is tested on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from trainer.config.model import ModelConfig

if TYPE_CHECKING:
    from trainer.model.language_model import LanguageModel

_SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_layers": 3,
    "num_heads": 4,
    "max_seq_len": 40,
}
FLAVOURS: dict[str, dict[str, Any]] = {
    "llama": {"tie_embeddings": True},
    "llama-untied": {"tie_embeddings": False, "norm_eps": 1e-5, "intermediate_size": 72},
    "llama-gqa": {"num_kv_heads": 2, "rope_theta": 50_000.0},
    "llama-wide-heads": {"num_kv_heads": 1, "head_dim": 20, "tie_embeddings": False},
    "llama-scaled-biased": {
        "attention_bias": "all",
        "num_kv_heads": 2,
        "tie_embeddings": False,
        "rope_scaling": "llama3",
        "rope_original_context": 24,
    },
    "qwen2": {"attention_bias": "qkv", "num_kv_heads": 2, "rope_scaling": "linear"},
    "qwen3": {"qk_norm": True},
    "qwen3-gqa-untied": {"qk_norm": True, "num_kv_heads": 2, "tie_embeddings": False},
    "gpt2": {"flavour": "gpt2", "norm_eps": 1e-5},
    "gpt2-untied": {"flavour": "gpt2", "norm_eps": 1e-5, "tie_embeddings": False},
}

MakeModel = Callable[..., "LanguageModel"]


@pytest.fixture(params=FLAVOURS)
def shape(request: pytest.FixtureRequest) -> ModelConfig:
    """A small model of each flavour."""
    return ModelConfig(name=request.param, **_SMALL, **FLAVOURS[request.param])


@pytest.fixture
def make_model() -> MakeModel:
    """A model in evaluation mode whose every parameter matters: gains not 1, biases not 0."""

    def make(config: ModelConfig, seed: int = 0) -> LanguageModel:
        import torch

        from trainer.model.language_model import LanguageModel

        model = LanguageModel(config)
        model.initialize(seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        return model.eval()

    return make
