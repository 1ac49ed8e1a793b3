"""Names, shapes and counts of parameters, read from the modules themselves.

The model is built on torch's meta device, where tensors have shapes but no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from shared.errors import UserError
from shared.text import format_count, plural
from trainer.config.model import ModelConfig
from trainer.config.schema import Config
from trainer.model.dimensions import dimensions
from trainer.model.gpt2 import Affine
from trainer.model.language_model import LanguageModel
from trainer.model.parts.registry import active_parts

Shapes = dict[str, tuple[int, ...]]


class _SkipInitialization(TorchFunctionMode):
    """Leaves out the modules' own random initialization.

    Without values there is nothing to draw, and the first `normal_` on the meta device loads
    torch's compiler, which takes seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def skipped_initialization() -> AbstractContextManager[object]:
    """A context in which modules do not initialize their parameters, so these take no memory until
    they are given values."""
    return _SkipInitialization()


def meta_model(model: ModelConfig) -> LanguageModel:
    """The model without memory. Raises UserError for sizes that no machine can address."""
    try:
        with torch.device("meta"), _SkipInitialization():
            return LanguageModel(model)
    except RuntimeError as error:  # a size beyond 64 bits
        raise UserError(f"The model {model.name} is too large: {error}.") from error


def parameter_shapes(model: ModelConfig) -> Shapes:
    """The shape of every parameter by its transformers name, in state-dict order.

    A tied output head is not listed: its weights are the embedding's.
    """
    return {name: tuple(p.shape) for name, p in meta_model(model).named_parameters()}


def trained_shapes(model: ModelConfig) -> Shapes:
    """The same of the parameters that training changes: all, or the adapters alone."""
    parameters = meta_model(model).named_parameters()
    return {name: tuple(p.shape) for name, p in parameters if p.requires_grad}


@dataclass(frozen=True)
class ParameterCount:
    """How many scalars there are, how many of them are trained, and how many are only looked up,
    not multiplied.

    `frozen_bytes` are those of the scalars that are not trained, as training keeps them.
    """

    total: int
    trained: int
    looked_up: int
    frozen_bytes: int


def parameter_count(model: ModelConfig) -> ParameterCount:
    """Count the parameters of a model of any depth."""
    # Layers are alike, so two models tell all of them: building 10^12 layers would take forever.
    one, two = (_counted(_of_layers(model, layers)) for layers in (1, 2))
    more = model.num_layers - 1
    return ParameterCount(*(a + more * (b - a) for a, b in zip(one, two, strict=True)))


def _of_layers(model: ModelConfig, layers: int) -> LanguageModel:
    return meta_model(model.model_copy(update={"num_layers": layers}))


def blocks(model: LanguageModel) -> Iterator[nn.Module]:
    """The blocks of a model, in order."""
    yield from model.transformer.h if model.config.flavour == "gpt2" else model.model.layers


def only_multiplies(block: nn.Module) -> bool:
    """Whether the matrices of a block are used in products alone, which autocast does in bf16."""
    return all(
        type(module) in (nn.Linear, Affine)
        for module in block.modules()
        if any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False))
    )


def gathered_in_bf16(model: ModelConfig, *, bf16: bool) -> bool:
    """Whether ranks that hold rows of the model gather its blocks in bf16, where they multiply in
    it: not where a block does more with its matrices."""
    return bf16 and all(map(only_multiplies, blocks(_of_layers(model, 1))))


def block_parameters(model: ModelConfig) -> int:
    """The number of scalars in one block."""
    one, two = (
        parameter_count(model.model_copy(update={"num_layers": layers})).total for layers in (1, 2)
    )
    return two - one


def _counted(model: LanguageModel) -> tuple[int, int, int, int]:
    tables = [
        module.weight
        for module in model.modules()
        # A tied embedding is multiplied as the output head.
        if isinstance(module, nn.Embedding) and module.weight is not model.lm_head.weight
    ]
    trained = [p for p in model.parameters() if p.requires_grad]
    # Other parts have constants and marks among the parameters, which are no weights.
    on_base = any(part.on_base for part in model.parts)
    frozen = [p for p in model.parameters() if not p.requires_grad] if on_base else []
    return (
        sum(p.numel() for p in (*trained, *frozen)),
        sum(p.numel() for p in trained),
        sum(table.numel() for table in tables),
        sum(p.nbytes for p in frozen),
    )


def count_parameters(model: ModelConfig) -> int:
    """The number of scalars, trained or frozen."""
    return parameter_count(model).total


def describe(config: Config) -> str:
    """One line about the model's size."""
    model = config.model
    n, count = dimensions(model), parameter_count(model)
    trained = "" if count.trained == count.total else f" ({format_count(count.trained)} trained)"
    return (
        f"{model.name}: {format_count(count.total)} parameters{trained}, "
        f"{model.flavour}, {plural(n.L, 'layer')}, width {n.D}, {plural(n.H, 'head')}"
        + (f" ({n.K} key-value)" if n.K != n.H else "")
        + "".join(f", {extra}" for extra in _extras(model))
        + "".join(f", {part.describe(model)}" for part in active_parts(model))
        + f", vocabulary {n.V}, context {n.T}"
    )


def _extras(model: ModelConfig) -> list[str]:
    """What a Llama has beyond the plain shape."""
    extras = ["norms of queries and keys"] if model.qk_norm else []
    if model.attention_bias != "none":
        biased = "attention" if model.attention_bias == "all" else "queries, keys and values"
        extras.append(f"biases of {biased}")
    if model.rope_scaling != "none":
        extras.append(f"{model.rope_scaling} rotary scaling by {model.rope_factor:g}")
    return extras
