"""Parts that no other program computes: folded into the weights if possible, else refused."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared.checkpoints.catalogue import has_file
from trainer.checkpoint.opening import OpenedModel
from trainer.checkpoint.saving import weight_tensors
from trainer.config.model import ModelConfig
from trainer.model.language_model import LanguageModel
from trainer.model.parts.interface import Part, Sidecar
from trainer.model.parts.registry import active_parts

EXTRA_HEADS = "mtp.safetensors"


@dataclass(frozen=True)
class Beside:
    """A part's file beside the model: its format and its bytes."""

    part: Part
    sidecar: Sidecar
    data: bytes


@dataclass(frozen=True)
class Prepared:
    """The model to write, and notes about what was left out or changed.

    `plain` is its configuration without the part in the file `beside`, if there is one.
    """

    opened: OpenedModel
    plain: ModelConfig
    notes: tuple[str, ...] = ()
    beside: Beside | None = None


def prepared(opened: OpenedModel, *, apart: bool = False) -> Prepared:
    """`opened` as a plain model, or with a part's parameters in a separate file (`apart`).

    Raises UserError for a part that a plain model cannot replace.
    """
    notes = []
    if has_file(opened.path, EXTRA_HEADS):
        notes.append("The multi-token heads are left out: generation does not use them.")
    config, weights = opened.model.config, weight_tensors(opened.model)
    beside: Beside | None = None
    for part in active_parts(config):
        if apart and beside is None and part.sidecar:
            data = part.sidecar.encode(config, weights)
            if data is not None:
                beside = Beside(part, part.sidecar, data)
                continue
        folded = part.fold(config, weights)
        if folded is None:
            continue
        config, weights = folded.config, folded.weights
        notes.append(folded.note)
    if config is not opened.model.config:
        model = LanguageModel(config)
        model.load_state_dict(weights, strict=not config.tie_embeddings)
        opened = replace(opened, model=model.eval())
    plain = beside.part.without(config) if beside else config
    return Prepared(opened, plain, tuple(notes), beside)
