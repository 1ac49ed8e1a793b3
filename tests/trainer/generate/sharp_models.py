"""Small models whose likeliest token is far ahead of the next, so that rounding rarely decides."""

from __future__ import annotations

from typing import Any

import torch

from trainer.config.model import ModelConfig
from trainer.model.language_model import LanguageModel


def sharp_model(**shape: Any) -> LanguageModel:
    """A model of two layers with `shape` on top, in evaluation mode."""
    common = {"hidden_size": 32, "num_layers": 2, "num_heads": 4}
    model = LanguageModel(ModelConfig(**{**common, **shape}))
    model.initialize(0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()
