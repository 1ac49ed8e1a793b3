"""The parts there are. Adding one is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from shared.errors import UserError
from shared.text import nearest, one_line
from trainer.config.model import ModelConfig
from trainer.model.parts.bitlinear import Ternary
from trainer.model.parts.hyper_connections.part import HyperConnections
from trainer.model.parts.interface import Part
from trainer.model.parts.lora import Lora
from trainer.model.parts.mtp import Mtp
from trainer.model.parts.skips import Skips

#: By name, in the order in which they change a model.
PARTS: dict[str, Part] = {
    part.name: part for part in (Ternary(), HyperConnections(), Skips(), Mtp(), Lora())
}


def active_parts(model: ModelConfig) -> tuple[Part, ...]:
    """The parts that a configuration switches on. Raises UserError for one that is not known."""
    for name in model.parts:
        if name not in PARTS:
            known = ", ".join(PARTS)
            raise UserError(
                f"model.parts.{one_line(name, 60)} is unknown{nearest(name[:60], list(PARTS))}; "
                f"the parts are {known}."
            )
    return tuple(part for part in PARTS.values() if part.settings(model) is not None)


def owner(model: ModelConfig) -> Callable[[str], Part | None]:
    """A function from a parameter's name to the part that owns it, if one does."""
    parts = active_parts(model)
    return lambda name: next((part for part in parts if part.owns(name)), None)


def rests_on_base(model: ModelConfig) -> bool:
    """Whether the model's own weights are frozen, and those of another folder."""
    return any(part.on_base for part in active_parts(model))


def base_of(model: ModelConfig) -> ModelConfig:
    """The model whose weights are frozen: itself, if none are."""
    for part in active_parts(model):
        if part.on_base:
            model = part.without(model)
    return model


def part_files(model: ModelConfig) -> list[str]:
    """The safetensors files that parts have in a checkpoint beside model.safetensors."""
    return sorted({part.weights_file for part in active_parts(model) if part.weights_file})


def sidecar_parts() -> Iterator[Part]:
    """The parts that a GGUF export keeps in a file of their own."""
    return (part for part in PARTS.values() if part.sidecar)
