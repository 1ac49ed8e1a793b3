"""Keys that do something only beside another: set in vain, they are refused or told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from shared.text import one_line
from trainer.config.model import ModelConfig
from trainer.config.optim import OptimConfig
from trainer.config.rl import RlConfig
from trainer.config.schema import Config


@dataclass(frozen=True)
class Condition:
    """Keys of a section that count only if `holds`; `why_not` says why they do not."""

    section: str
    keys: tuple[str, ...]
    holds: Callable[[Config], Any]
    why_not: str

    def in_vain(self, config: Config) -> Iterator[str]:
        """The keys with their values that are set although they do not count."""
        if self.holds(config):
            return
        section = getattr(config, self.section)
        for key in self.keys:
            value = getattr(section, key)
            if value != type(section).model_fields[key].default:
                shown = f"{value:g}" if isinstance(value, float) else one_line(value, 40)
                yield f"{self.section}.{key}" + ("" if value is True else f" {shown}")


#: Refused: who sets these wants a model that would not be made.
_REFUSED = (
    Condition(
        "model", ("hyper_dynamic",), lambda c: c.model.hyper_streams, "needs model.hyper_streams"
    ),
    Condition(
        "model",
        ("ternary_from", "ternary_group"),
        lambda c: c.model.ternary,
        "needs model.ternary",
    ),
    Condition(
        "model",
        ("rope_factor",),
        lambda c: c.model.rope_scaling != "none",
        "needs model.rope_scaling linear or llama3",
    ),
    Condition(
        "model",
        ("rope_low_freq_factor", "rope_high_freq_factor", "rope_original_context"),
        lambda c: c.model.rope_scaling == "llama3",
        "needs model.rope_scaling llama3",
    ),
    Condition(
        "model",
        ("lora_alpha", "lora_targets", "lora_dropout", "lora_base"),
        lambda c: c.model.lora_r,
        "needs model.lora_r (--lora)",
    ),
)


def _trained_by(optim: OptimConfig) -> set[str]:
    """The optimizers at work."""
    return (
        set(optim.name.split("+")) if optim.groups is None else {g.optimizer for g in optim.groups}
    )


def _has_rest(optim: OptimConfig) -> bool:
    """Whether `rest_learning_rate` is some group's rate."""
    first = optim.name.partition("+")[0]
    if optim.groups is None:
        return first == "muon"
    return any(g.optimizer != first and g.learning_rate is None for g in optim.groups)


#: Told: they may come from a preset or file that was changed in one place.
_TOLD = (
    Condition(
        "model", ("ternary_activations",), lambda c: c.model.ternary, "model.ternary is false"
    ),
    Condition(
        "model", ("mtp_kind", "mtp_weight"), lambda c: c.model.mtp_heads, "model.mtp_heads is 0"
    ),
    Condition(
        "rl",
        tuple(RlConfig.model_fields),
        lambda c: c.data.dataset == "prompts",
        "data.dataset is {config.data.dataset}, not prompts",
    ),
    Condition(
        "rl",
        ("weights",),
        lambda c: c.data.dataset != "prompts" or c.rl.normalize_parts,
        "rl.normalize_parts is false",
    ),
    Condition(
        "train",
        ("max_steps", "epochs", "label_smoothing", "z_loss", "document_mask", "vocab_multiple"),
        lambda c: c.data.dataset != "prompts",
        "the loss and the length of the run are those of rl",
    ),
    Condition(
        "eval",
        ("batches",),
        lambda c: c.data.dataset != "prompts",
        "all held-out tasks are answered",
    ),
    Condition(
        "data",
        ("path", "val_path"),
        lambda c: c.data.dataset != "prompts",
        "tasks are read from rl.prompts and rl.val_prompts",
    ),
    Condition(
        "preference",
        ("loss", "beta", "label_smoothing"),
        lambda c: c.data.dataset == "pairs",
        "data.dataset is {config.data.dataset}, not pairs",
    ),
    Condition(
        "preference",
        ("label_smoothing",),
        lambda c: c.data.dataset != "pairs" or c.preference.loss == "sigmoid",
        "preference.loss is {config.preference.loss}, not sigmoid",
    ),
    Condition(
        "train",
        ("label_smoothing", "z_loss", "document_mask", "vocab_multiple"),
        lambda c: c.data.dataset != "pairs",
        "the loss is that of pairs of answers",
    ),
    Condition(
        "eval",
        ("batches",),
        lambda c: c.data.dataset != "pairs",
        "all pairs held back are evaluated",
    ),
    Condition(
        "data",
        ("val_path",),
        lambda c: c.data.dataset != "pairs",
        "pairs are held back by --val-split",
    ),
    Condition(
        "train",
        ("vocab_multiple",),
        lambda c: not c.train.collider,
        "train.collider multiplies the output head in its own way",
    ),
    Condition("train", ("collider_keep",), lambda c: c.train.collider, "train.collider is false"),
    Condition(
        "checkpoint",
        ("begin_with",),
        lambda c: c.checkpoint.begin_from,
        "checkpoint.begin_from is not given",
    ),
    Condition(
        "optim",
        ("rest_learning_rate",),
        lambda c: _has_rest(c.optim),
        "no second optimizer takes its rate from there",
    ),
    Condition(
        "optim",
        ("muon_scale", "muon_steps", "muon_coefficients", "muon_dtype", "momentum"),
        lambda c: "muon" in _trained_by(c.optim),
        "nothing is trained by muon",
    ),
    Condition(
        "optim",
        ("decay_start", "decay_step", "decay_shape"),
        lambda c: c.optim.schedule == "wsd",
        "optim.schedule is {config.optim.schedule}, not wsd",
    ),
)


def missing_conditions(model: ModelConfig) -> list[str]:
    """Settings of a model that are refused because another is missing, each as a clause."""
    config = Config(model=model)
    return [f"{key} {c.why_not}" for c in _REFUSED for key in c.in_vain(config)]


def idle_model_keys(model: ModelConfig) -> set[str]:
    """The keys of a model that have no effect, whatever their values."""
    config = Config(model=model)
    conditions = [c for c in (*_REFUSED, *_TOLD) if c.section == "model"]
    return {key for c in conditions if not c.holds(config) for key in c.keys}


def without_effect(config: Config) -> Iterator[str]:
    """A sentence about each setting that changes nothing."""
    for condition in _TOLD:
        for key in condition.in_vain(config):
            yield f"{key} has no effect: {condition.why_not.format(config=config)}"
