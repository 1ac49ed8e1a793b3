"""What a model grows into, and how: checked before anything is computed. Loads no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.config.resolve import check_model
from trainer.config.schema import Config
from trainer.growth.axes import Axis, duplicated, grouped_heads, padded
from trainer.growth.sizes import all_sizes, sizes_of
from trainer.growth.stages import Stage
from trainer.model.dimensions import Dimensions, complete, dimensions
from trainer.model.parts.registry import rests_on_base

Method = Literal["pad", "duplicate", "stack"]
Place = Literal["interleave", "top"]
METHODS: tuple[Method, ...] = ("pad", "duplicate", "stack")
#: What a size can become, by its letter: more is a mistake, and would only use up the memory.
LARGEST = {"D": 2**20, "F": 2**22, "L": 2**12, "H": 2**14, "K": 2**14}
PLACES: tuple[Place, ...] = ("interleave", "top")


@dataclass(frozen=True)
class Layer:
    """Where a block comes from; a `new` one begins as the identity."""

    source: int
    new: bool


@dataclass(frozen=True)
class Growth:
    """From one configuration to a larger one: axes, blocks, method.

    `copies` is how often the residual stream is repeated; 1 where it is padded.
    """

    old: ModelConfig
    new: ModelConfig
    method: Method
    stream: Axis
    queries: Axis
    pairs: Axis
    neurons: Axis
    layers: tuple[Layer, ...]

    @property
    def copies(self) -> int:
        """How often the residual stream is repeated; 1 where it is padded or stays."""
        return len(self.stream) // self.stream.old if self.method == "duplicate" else 1

    @property
    def preserves(self) -> bool:
        """Whether the larger model computes the same function."""
        stacked = [layer for place, layer in enumerate(self.layers) if layer.source != place]
        return self.method != "stack" or not stacked


def plan_growth(
    old: ModelConfig,
    sizes: Mapping[str, int],
    *,
    method: Method = "pad",
    place: Place = "interleave",
) -> Growth:
    """The growth of `old` to `sizes`, by fields of ModelConfig. Raises UserError.

    What `sizes` leaves out follows from the others: the heads from the width at the same channels
    per head, the key-value heads from the heads at the same ratio, the feed-forward width from the
    model's width at the same ratio.
    """
    old = complete(old)
    before = dimensions(old)
    new = complete(old.model_copy(update=all_sizes(old, sizes)))
    after = dimensions(new)
    _check_sizes(before, after)
    _check_parts(old, before, after)
    problems = check_model(new)
    if problems:
        raise UserError(f"The larger model is not possible: {'; '.join(problems)}.")
    stream = padded(before.D, after.D)
    if method == "duplicate":
        times, rest = divmod(after.D, before.D)
        if rest:
            raise UserError(
                f"duplicate repeats the width, so {before.D} can become {2 * before.D} or "
                f"{3 * before.D}, not {after.D}; choose one of them, or --method pad."
            )
        stream = duplicated(before.D, times)
    heads = grouped_heads((before.H, after.H), (before.K, after.K))
    if heads is None:
        raise UserError(
            f"{before.H} heads in groups of {before.H // before.K} do not fit into {after.H} in "
            f"groups of {after.H // after.K}; more key-value heads make room for them."
        )
    return Growth(
        old,
        new,
        method,
        stream,
        *heads,
        padded(before.F, after.F),
        _layers(before.L, after.L, method, place),
    )


def _check_sizes(before: Dimensions, after: Dimensions) -> None:
    if after.C != before.C:
        raise UserError(
            f"The channels of a head must stay {before.C}, not {after.C}: positions turn them by "
            f"angles that depend on their number. Choose heads so that hidden_size / num_heads is "
            f"{before.C}, or set head_dim={before.C}."
        )
    names = {"D": "hidden_size", "F": "intermediate_size", "L": "num_layers", "H": "num_heads",
             "K": "num_kv_heads"}  # fmt: skip
    for letter, name in names.items():
        one, other = getattr(before, letter), getattr(after, letter)
        if other > LARGEST[letter]:
            raise UserError(f"{name} {other} is more than {LARGEST[letter]}, the most to grow to.")
        if other < one:
            raise UserError(f"{name} {other} is less than the model's {one}; a model only grows.")
    if after == before:
        raise UserError("The model has these sizes already; give larger ones to grow to.")


def _check_parts(old: ModelConfig, before: Dimensions, after: Dimensions) -> None:
    """Raise UserError where a part of the model does not allow this growth."""
    if rests_on_base(old):
        raise UserError(
            "Adapters alone cannot grow: merge them first (trainer export --merge), then grow "
            "the model."
        )
    wider = (after.D, after.F, after.H, after.K) != (before.D, before.F, before.H, before.K)
    if old.ternary and wider:
        raise UserError(
            "A ternary model grows in num_layers only: its scale is the mean of a whole matrix, so "
            "zeros beside the weights would change all of them."
        )
    if old.hyper_streams > 1 and after.L != before.L:
        raise UserError(
            "A model with hyper-connections grows in width only: a new block would have to mix "
            "its streams by exactly the identity, which could not be trained away from it."
        )
    if old.flavour == "gpt2" and after.H * after.C != after.D:
        raise UserError(
            f"In the gpt2 flavour the heads make up the width: hidden_size {after.D} needs "
            f"num_heads {after.D // after.C}."
        )


def _layers(old: int, new: int, method: Method, place: Place) -> tuple[Layer, ...]:
    """The blocks of the larger model."""
    if method == "stack":
        return tuple(Layer(i % old, new=False) for i in range(new))
    if place == "top":
        return tuple(Layer(min(i, old - 1), new=i >= old) for i in range(new))
    # New blocks behind the old ones, as evenly as possible.
    layers: list[Layer] = []
    for i in range(old):
        behind = (i + 1) * new // old - i * new // old
        layers += [Layer(i, new=j > 0) for j in range(behind)]
    return tuple(layers)


def check_stages(config: Config, stages: Sequence[Stage]) -> None:
    """Raise UserError unless every stage's model can become the next one's."""
    for stage, following in pairwise(stages):
        try:
            plan_growth(
                stage.model,
                sizes_of(following.model),
                method=config.growth.method,
                place=config.growth.place,
            )
        except UserError as error:
            raise UserError(
                f"growth.stages, from {stage.phase} to {following.phase}: {error}"
            ) from None
