"""`checkpoint.begin_from`: what a new run starts from, and the shape it takes from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from shared.errors import UserError
from shared.text import one_line
from trainer.checkpoint.hub_models import Download, hub_name
from trainer.checkpoint.references import resolve_reference
from trainer.config.model import ModelConfig
from trainer.config.resolve import Settings, resolve
from trainer.model.differences import differences, tell

KEY = "checkpoint.begin_from"
LONGEST = 2048  # tokens of a sequence, unless another length is chosen
ADAPTER_RATE = 2e-4  # peak rate of LoRA adapters, which begin at zero; weights want a smaller one


@dataclass(frozen=True)
class Layers:
    """The settings of a new run: of `--config` as a preset or as a file, and of flags."""

    source: Settings
    file: Settings
    flags: Settings
    preset: bool
    #: The folder that the run starts from.
    begun_from: Path | None = None

    @property
    def in_order(self) -> tuple[Settings, ...]:
        """The layers for `resolve`, to which it matters what a later one discards."""
        return self.source, self.file, self.flags

    @property
    def merged(self) -> Settings:
        """Later layers over earlier ones."""
        return {**self.source, **self.file, **self.flags}


def check_model_is_given(layers: Layers, *, chat: bool) -> None:
    """Raise UserError for conversations or a preset without a model where no model is named."""
    if layers.merged.get(KEY) is not None:
        return
    lacking = layers.preset and not any(key.startswith("model.") for key in layers.source)
    if chat or lacking:
        what = "--chat" if chat else f"--config {layers.source.get('name')}"
        raise UserError(
            f"{what} trains a model that exists: give --begin-from with a model folder, a run or a "
            "checkpoint."
        )


def with_beginning(layers: Layers, runs_dir: Path, download: Download) -> Layers:
    """The layers with the shape of the model that `checkpoint.begin_from` names, if it names one.

    A model of the Hub is downloaded, and recorded with its commit. A preset's vocabulary size
    yields to the model. Raises UserError when there is no such model, and when a setting
    contradicts it.
    """
    reference = layers.merged.get(KEY)
    if reference is None:
        return layers
    if not isinstance(reference, str):
        resolve(*layers.in_order)  # says what is wrong with it
        raise UserError(f"{KEY} {one_line(reference, 60)} is not a run or a folder.")
    name = hub_name(reference, runs_dir)
    if name is None:
        folder = resolve_reference(reference, runs_dir).find()  # before torch is loaded
        recorded = str(folder)
    else:
        downloaded = download(name)
        folder, recorded = downloaded.folder, str(downloaded.name)
    from trainer.checkpoint.loading import model_config

    shape = model_config(folder)
    source = dict(layers.source)
    if layers.preset:
        source.pop("model.vocab_size", None)
    given = [_without_open_sizes(layer) for layer in (source, layers.file, layers.flags)]
    _refuse_contradictions(shape, given, reference)
    own = {f"model.{key}": value for key, value in shape.model_dump(mode="json").items()}
    return Layers(
        source={**own, **given[0]},
        file=given[1],
        flags={**given[2], KEY: recorded},
        preset=False,
        begun_from=folder,
    )


def with_length(layers: Layers, tell: Callable[[str], None]) -> Layers:
    """The layers with sequences of LONGEST tokens at most, where nobody chose their length.

    Half the context is the default, which is far too much for many published models.
    """
    context = layers.source.get("model.max_seq_len")
    if layers.begun_from is None or layers.merged.get("train.seq_len") is not None:
        return layers
    if not isinstance(context, int) or context // 2 <= LONGEST:
        return layers
    tell(
        f"sequences have {LONGEST} tokens; --seq-len sets another length, up to the context of "
        f"{context}"
    )
    return replace(layers, flags={**layers.flags, "train.seq_len": LONGEST})


def with_adapter_rate(
    layers: Layers, tell: Callable[[str], None], rate: float = ADAPTER_RATE
) -> Layers:
    """The layers with a rate that fits adapters, where a model with adapters is trained by AdamW
    and nobody chose its rate: that of a preset is meant for all weights."""
    chosen = {**layers.file, **layers.flags}
    merged = layers.merged
    by_adamw = merged.get("optim.name", "adamw") == "adamw" and not merged.get("optim.groups")
    if not merged.get("model.lora_r") or not by_adamw or "optim.learning_rate" in chosen:
        return layers
    tell(f"adapters are trained at a peak rate of {rate:g}; --learning-rate sets another")
    return replace(layers, flags={**layers.flags, "optim.learning_rate": rate})


def _without_open_sizes(settings: Settings) -> Settings:
    """The settings without those of the model that are null: the checkpoint knows its sizes."""
    return {
        key: value
        for key, value in settings.items()
        if not (key.startswith("model.") and value is None)
    }


def _refuse_contradictions(shape: ModelConfig, layers: list[Settings], reference: str) -> None:
    """Raise UserError naming every setting that makes another model than the checkpoint's."""
    from trainer.model.parts.registry import base_of, rests_on_base

    asked = {
        key.removeprefix("model."): value
        for layer in layers
        for key, value in layer.items()
        if key.startswith("model.") and key.removeprefix("model.") in ModelConfig.model_fields
    }
    try:
        model = ModelConfig.model_validate({**shape.model_dump(), **asked})
    except ValidationError:
        resolve(*layers)  # says what is wrong
        raise
    if not rests_on_base(shape):
        model = base_of(model)  # adapters begin on it
    found = differences(shape, model)
    if found:
        raise UserError(
            f"--begin-from {one_line(reference)} holds another model: {tell(found)}; leave the "
            "shape out of the configuration, or begin from another model."
        )
