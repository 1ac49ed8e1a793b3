"""How two models differ, by their settings. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.text import one_line
from trainer.config.conditions import idle_model_keys
from trainer.config.model import ModelConfig
from trainer.model.dimensions import complete

#: Settings that do not change what the model computes from the same weights.
_NOT_COMPARED = {"name", "dropout", "mtp_weight", "lora_dropout", "lora_base"}
#: Settings that the gpt2 flavour does not use.
_NOT_IN_GPT2 = {"rope_theta"}


@dataclass(frozen=True)
class Difference:
    """A setting of two models that makes them compute different functions."""

    key: str
    one: object
    other: object


def differences(one: ModelConfig, other: ModelConfig) -> list[Difference]:
    """Every setting by which the two compute something different from the same weights.

    All fields of ModelConfig count except those listed above, so a new field counts by default.
    Settings that have no effect in either model do not count.
    """
    ignored = _NOT_COMPARED | (idle_model_keys(one) & idle_model_keys(other))
    if one.flavour == other.flavour == "gpt2":
        ignored |= _NOT_IN_GPT2
    pairs = zip(complete(one), complete(other), strict=True)
    return [
        Difference(f"model.{key}", value, others)
        for (key, value), (_, others) in pairs
        if key not in ignored and value != others
    ]


def tell(found: Sequence[Difference]) -> str:
    """How a checkpoint's model, the one, differs from the configured one, as clauses."""
    return ", ".join(
        f"{d.key} is {one_line(d.one, 60)} there and {one_line(d.other, 60)} in the configuration"
        for d in found
    )
