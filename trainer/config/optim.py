"""The section `optim`: how weights are updated."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from trainer.config.section import CountOrZero, Section

#: What the optimizers learn well with; AdamW's values hold for every other.
_RATES = {"muon": 0.02, "lion": 1e-4}
_BETA2 = {"lion": 0.99}


def default_rate(optimizer: str, muon_scale: str = "original") -> float:
    """The peak learning rate of an optimizer where none is given."""
    if optimizer == "muon" and muon_scale == "match_rms_adamw":
        optimizer = "adamw"
    return _RATES.get(optimizer, 6e-4)


def whole_name(name: Any) -> Any:
    """An optimizer's name with the one that trains the rest, which adamw is if none is named."""
    return "muon+adamw" if name == "muon" else name


def _headline(values: dict[str, Any]) -> str:
    """The first optimizer of `optim.name`, which `optim.learning_rate` belongs to."""
    return str(values.get("name")).partition("+")[0]


def _last(values: dict[str, Any]) -> str:
    """The last optimizer of `optim.name`, which the betas belong to."""
    return str(values.get("name")).rpartition("+")[2]


class GroupConfig(Section):
    """One row of the table of parameter groups; what is null comes from the section."""

    pattern: str = Field("", description="Regular expression that finds a parameter's name.")
    min_dims: Annotated[int, Field(ge=0, le=8)] = Field(0, description="Least dimensions.")
    optimizer: str = Field(description="Optimizer of these parameters.")
    learning_rate: float | None = Field(None, gt=0, description="Peak learning rate.")
    betas: list[Annotated[float, Field(ge=0, lt=1)]] | None = Field(
        None, min_length=1, max_length=2, description="Its betas; muon has one, its momentum."
    )
    weight_decay: NonNegativeFloat | None = Field(None, description="Weight decay.")

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"must be a regular expression: {error}") from error
        return pattern

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A row holds only what it says."""
        fields = type(self).model_fields
        return {key: value for key, value in dump(self).items() if value != fields[key].default}


class OptimConfig(Section):
    """The optimizers, their parameter groups and the learning-rate schedule."""

    name: str = Field(
        "adamw",
        description="adamw, lion, or for the hidden matrices and the rest muon+adamw or muon+lion.",
    )
    muon_scale: Literal["original", "match_rms_adamw"] = Field(
        "original",
        description="Scale of muon's update; with match_rms_adamw, learning rates of adamw fit.",
    )
    learning_rate: float = Field(
        default_factory=lambda values: default_rate(
            _headline(values), str(values.get("muon_scale"))
        ),
        gt=0,
        description="Peak learning rate; unless given 6e-4, of lion 1e-4, of muon 0.02 in its own "
        "scale.",
    )
    rest_learning_rate: float | None = Field(
        None,
        gt=0,
        description="Peak learning rate beside muon; null: 6e-4 for adamw, 1e-4 for lion.",
    )
    min_lr: NonNegativeFloat | None = Field(
        None, description="Learning rate at the last step; null: a tenth of the peak."
    )
    schedule: Literal["cosine", "wsd", "constant"] = Field(
        "cosine", description="What follows the warmup; wsd holds the peak, then decays."
    )
    warmup_steps: CountOrZero = Field(100, description="Steps of linear warmup.")
    decay_start: float = Field(
        0.4, ge=0, le=1, description="Where the decay of wsd begins, as a share of all steps."
    )
    decay_step: CountOrZero | None = Field(
        None, description="Step at which the decay of wsd begins; null: as decay_start says."
    )
    decay_shape: Literal["cosine", "linear", "sqrt"] = Field(
        "linear", description="Shape of the decay of wsd."
    )
    weight_decay: NonNegativeFloat = Field(
        0.1, description="Weight decay of matrices and embeddings."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="First beta of adamw and lion.")
    beta2: float = Field(
        default_factory=lambda values: _BETA2.get(_last(values), 0.95),
        ge=0,
        lt=1,
        description="Second beta of adamw and lion; unless given 0.95, of lion 0.99.",
    )
    eps: float = Field(1e-8, gt=0, description="Epsilon of adamw.")
    momentum: float = Field(0.95, ge=0, lt=1, description="Momentum of muon.")
    muon_steps: Annotated[int, Field(ge=1, le=20)] = Field(
        5, description="Newton-Schulz steps of muon."
    )
    muon_coefficients: Literal["quintic", "polar_express"] = Field(
        "quintic", description="Coefficients of the Newton-Schulz steps."
    )
    muon_dtype: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Precision of the Newton-Schulz steps; auto: bf16 where it is faster."
    )
    grad_clip: NonNegativeFloat = Field(
        1.0, description="Clip the global gradient norm to this; 0: no clipping."
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="Decay of an exponential average of the weights; null: none."
    )
    tail_start: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Average the weights from this share of all steps on; null: do not.",
    )
    groups: list[GroupConfig] | None = Field(
        None,
        min_length=1,
        description="Parameter groups, of which the first that matches decides; null: by name.",
    )

    @property
    def final_lr(self) -> float:
        """The learning rate at the end of the schedule."""
        return self.learning_rate / 10 if self.min_lr is None else self.min_lr
