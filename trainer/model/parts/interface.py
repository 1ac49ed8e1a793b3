"""What a part of the model declares.

A part is an optional change to the model: other layers, other connections between them, extra
heads, an extra loss term. It lives in one module (or package) and is registered in `registry.py`.
The model, checkpoints and exporters ask the parts of a configuration; nothing else names a part.

B batch, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from pydantic import ValidationError
from torch import Tensor

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.config.resolve import validation_problems
from trainer.config.schema import Config
from trainer.config.section import Section

if TYPE_CHECKING:
    import torch

    from trainer.model.documents import Documents
    from trainer.model.inference.drafts import Drafter
    from trainer.model.language_model import LanguageModel
    from trainer.model.loss import Losses

Json = dict[str, Any]
Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass in training: ids and targets (B, T), hidden states (B, T, D).

    `weights_BT` are the data's, or None. `rows_BK` are the tokens of each sequence that the loss
    is about, where it is not about all. `documents` are given where tokens see their own document
    only.
    """

    ids_BT: Tensor  # noqa: N815
    targets_BT: Tensor  # noqa: N815
    hidden_BTD: Tensor  # noqa: N815
    weights_BT: Tensor | None = None  # noqa: N815
    rows_BK: Tensor | None = None  # noqa: N815
    documents: Documents | None = None

    def chosen(
        self, hidden_BTD: Tensor, targets_BT: Tensor, weights_BT: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The three at the rows that the loss is about, (B, K, D) and (B, K)."""
        rows = self.rows_BK
        if rows is None:
            return hidden_BTD, targets_BT, weights_BT
        wide = rows[..., None].expand(-1, -1, hidden_BTD.shape[-1])
        weights = None if weights_BT is None else weights_BT.gather(1, rows)
        return hidden_BTD.gather(1, wide), targets_BT.gather(1, rows), weights


class Kept(NamedTuple):
    """Bytes that a part keeps for the backward pass: per token in every layer, and in all.

    `scattered` says whether they lie between what the model keeps, so that a CPU's allocator cannot
    use freed pieces again. Where layers are computed again, `input_token` bytes per token are kept
    of each input besides, and `lasting` says that the layers' own bytes are kept all the same.
    """

    layer_token: float = 0
    whole: int = 0
    scattered: bool = True
    input_token: float = 0
    lasting: bool = False


@dataclass(frozen=True)
class Plain:
    """A model without the part that computes the same, and a sentence about how exact that is."""

    config: ModelConfig
    weights: dict[str, Tensor]
    note: str


class Sidecar(Protocol):
    """A file beside a GGUF that holds a part's parameters, for this program alone.

    The GGUF names `architecture`, so that others refuse it, and the settings in `keys`, which are
    positive whole numbers and fields of ModelConfig. The file has the GGUF's name with `suffix`
    (".mhc").
    """

    @property
    def architecture(self) -> str: ...

    @property
    def suffix(self) -> str: ...

    @property
    def keys(self) -> tuple[str, ...]: ...

    def encode(self, model: ModelConfig, weights: Weights) -> bytes | None:
        """The file; None where the model is better folded. Raises UserError."""

    def decode(self, path: Path, model: ModelConfig) -> dict[str, Tensor]:
        """The part's parameters by name. Raises UserError when the file does not fit the model."""


class Part:
    """A part that changes nothing; parts override what concerns them.

    Every method is given the configuration or the model, so a part has no state.
    """

    #: Its key in `model.parts`.
    name: str
    #: What people call it, in the plural.
    title: str
    #: Its settings, as written in `model.parts.<name>`.
    section: type[Section] = Section
    #: `model_type` and `architectures` in config.json, so that other programs refuse the model.
    #: None for a part without which the model computes the same next-token predictions.
    model_type: str | None = None
    architecture: str | None = None
    #: Keys of config.json that it reads in `fields`, and that are refused where no part reads them.
    config_keys: frozenset[str] = frozenset()
    #: A safetensors file in a checkpoint for the parameters it owns; None: model.safetensors.
    weights_file: str | None = None
    #: Whether it freezes the model's own weights: they are those of the folder that training began
    #: from, and a checkpoint holds only what the part owns.
    on_base: bool = False
    #: How a GGUF export keeps it; None: it cannot.
    sidecar: Sidecar | None = None

    # Configuration

    def settings(self, model: ModelConfig) -> Section | None:
        """Its settings, or None when it is off. Raises UserError for wrong ones."""
        if self.name not in model.parts:
            return None
        try:
            return self.section.model_validate(model.parts[self.name])
        except ValidationError as error:
            problems = "; ".join(validation_problems(error))
            raise UserError(f"model.parts.{self.name} is wrong: {problems}.") from error

    def without(self, model: ModelConfig) -> ModelConfig:
        """The configuration with this part off."""
        others = {name: value for name, value in model.parts.items() if name != self.name}
        return model.model_copy(update={"parts": others})

    def describe(self, model: ModelConfig) -> str:
        """What the model's one-line description says of it."""
        return self.title

    def notes(self, config: Config) -> Iterator[str]:
        """What a person should know before training with it, each a sentence without its end."""
        yield from ()

    # Model

    def build(self, model: LanguageModel) -> None:
        """Change a model that has just been built: replace modules, or add some."""

    def kept(self, model: ModelConfig, width: int) -> Kept:
        """What it keeps beyond what a model without it does, for an estimate of the memory.

        `width` is the size of an activation: 4 bytes, or 2 with bf16.
        """
        return Kept()

    def owns(self, name: str) -> bool:
        """Whether it added the parameter `name`.

        The optimizer and `initialize` treat it apart from the model's own parameters.
        """
        return False

    def initialize(self, model: LanguageModel, generator: torch.Generator) -> None:
        """Fill the parameters it owns, drawing from `generator` (on the CPU) alone."""

    def begin_run(self, model: LanguageModel) -> None:
        """Forget the steps of another run, whose weights a new run begins with."""

    # Training. Evaluation measures the plain next-token loss.

    def before_step(self, model: LanguageModel, step: int, steps: int) -> str | None:
        """Prepare for step `step` (from 1) of `steps`. Returns a sentence when something begins.

        Called again for a step that is repeated. What it changes has to be in the weights, so that
        a checkpoint holds it.
        """
        return None

    def measure(self, model: LanguageModel, ids_1T: Tensor) -> dict[str, float]:
        """What it does to the model, for the log, on one training sequence.

        Called now and then, in evaluation mode and without gradients.
        """
        return {}

    def token_weights(
        self, model: LanguageModel, step: ForwardPass, weights_BT: Tensor | None
    ) -> Tensor | None:
        """The weights of the tokens in the loss, given those so far."""
        return weights_BT

    def add_loss(self, model: LanguageModel, step: ForwardPass, losses: Losses) -> Losses:
        """`losses` with its own terms added to the total, and named for the log."""
        return losses

    # Generation

    def drafter(self, model: LanguageModel) -> Drafter | None:
        """What drafts tokens when `model` generates, if the part does."""
        return None

    # Files

    def words(self, model: ModelConfig) -> Json:
        """What it adds to config.json beyond its entry in `parts`."""
        return {}

    def fields(self, config: Json) -> Json:
        """Fields of ModelConfig that it reads back from its words. Raises KeyError."""
        return {}

    def fold(self, model: ModelConfig, weights: Weights) -> Plain | None:
        """The model without this part, for an export.

        None if other programs compute the part too, so it stays. Raises UserError with the reason
        if the part cannot be exported.
        """
        self.refuse_export(model)

    def refuse_export(self, model: ModelConfig) -> NoReturn:
        """Raise UserError: other programs would compute another model."""
        raise UserError(
            f"{model.name} cannot be exported: other programs do not compute its {self.title}."
        )
