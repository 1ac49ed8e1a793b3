"""The sizes of a model that growth changes. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.config.model import ModelConfig
from trainer.model.dimensions import complete, dimensions

SIZES = ("hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "head_dim")


def all_sizes(old: ModelConfig, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes with those that follow from them."""
    n = dimensions(old)
    found = dict(sizes)
    width = found.get("hidden_size", n.D)
    if "num_heads" not in found and width % n.C == 0 and n.H * n.C == n.D:
        found["num_heads"] = width // n.C
    heads = found.get("num_heads", n.H)
    if "num_kv_heads" not in found and heads * n.K % n.H == 0:
        found["num_kv_heads"] = heads * n.K // n.H
    if "intermediate_size" not in found:
        found["intermediate_size"] = -(-n.F * width // n.D)
    return {"head_dim": n.C, **found}


def sizes_of(model: ModelConfig) -> dict[str, int]:
    """The sizes of a model, all of them."""
    whole = complete(model).model_dump()
    return {key: whole[key] for key in SIZES}
