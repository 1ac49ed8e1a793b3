"""Parts that no other program computes: folded away where that is exact, else refused."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared.checkpoints.catalogue import has_file
from shared.errors import UserError
from trainer.checkpoint.opening import OpenedModel
from trainer.checkpoint.saving import weight_tensors
from trainer.formats.mhc import MhcLayer, mhc_of_weights
from trainer.model.language_model import LanguageModel
from trainer.model.parts.hyper_connections import fold_hyper_connections

EXTRA_HEADS = "mtp.safetensors"


@dataclass(frozen=True)
class Prepared:
    """A model as it is written, and what that left out or changed.

    `connections` are hyper-connections that go into a file of their own; empty where there are
    none any more.
    """

    opened: OpenedModel
    notes: tuple[str, ...] = ()
    connections: tuple[MhcLayer, ...] = ()


def prepared(opened: OpenedModel, *, apart: bool = False) -> Prepared:
    """`opened` as a plain model, or with its hyper-connections `apart`.

    Raises UserError for hyper-connections that no plain model can stand for.
    """
    notes = []
    if has_file(opened.path, EXTRA_HEADS):
        notes.append("The heads for later tokens are left out: no program uses them to generate.")
    config = opened.model.config
    if not config.hyper_streams:
        return Prepared(opened, tuple(notes))
    weights = weight_tensors(opened.model)
    if apart and config.hyper_streams > 1:
        layers = mhc_of_weights(weights, config.hyper_streams)
        return Prepared(opened, tuple(notes), tuple(layers))
    try:
        folded = fold_hyper_connections(weights, config)
    except UserError as error:
        raise UserError(
            f"{error} Other programs would leave them out and compute another model; --gguf with "
            "--mhc writes both for `trainer serve` and `trainer generate`."
        ) from error
    how = (
        "without any error"
        if folded.eps_error == 0
        else f"all but for the eps of norms, which is off by {folded.eps_error:.2g}"
    )
    notes.append(f"The hyper-connections are folded into the weights, {how}.")
    model = LanguageModel(folded.config)
    model.load_state_dict(folded.weights, strict=not config.tie_embeddings)
    return Prepared(replace(opened, model=model.eval()), tuple(notes))
