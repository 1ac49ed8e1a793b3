"""A checkpoint grows: from a folder to another one, the first untouched."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.checkpoints.catalogue import META, OPTIMIZER, TRAINER_STATE, has_file, in_use
from shared.errors import RunError, UserError
from shared.files import fsync_directory, fsync_file, read_json
from trainer.checkpoint.foreign_folder import end_ids
from trainer.checkpoint.loading import load_model, verify
from trainer.checkpoint.opening import own_tokenizer
from trainer.checkpoint.progress import Progress, read_progress
from trainer.checkpoint.safetensors_file import read_tensors
from trainer.checkpoint.saving import Snapshot, weight_tensors, write_checkpoint, write_model
from trainer.checkpoint.unpacking import unpacked
from trainer.config.model import ModelConfig
from trainer.config.resolve import flatten, resolve
from trainer.config.schema import Config
from trainer.growth.measuring import Measured, measure
from trainer.growth.model import grow_state, grow_weights
from trainer.growth.plan import Growth
from trainer.model.language_model import LanguageModel
from trainer.model.shapes import skipped_initialization

#: What a lossless growth may change in the logits, as a share of the largest: fp32's rounding over
#: many layers, far below what a mistake would.
BOUND = 1e-4


class GrowthError(RunError):
    """The larger model does not compute what the smaller one does."""


@dataclass(frozen=True)
class Source:
    """A checkpoint to grow. Without `progress` it holds weights only."""

    folder: Path
    model: LanguageModel
    config: Config
    progress: Progress | None
    state: dict[str, Tensor] = field(default_factory=dict)
    random: dict[str, Any] = field(default_factory=dict)

    @property
    def weights_only(self) -> bool:
        """Whether training cannot be resumed from it."""
        return self.progress is None


def open_source(folder: Path) -> Source:
    """Read the checkpoint or transformers folder. Raises UserError, RunError."""
    with in_use(folder):
        verify(folder)
        model = load_model(folder, torch.device("cpu")).model
        config = _recorded_config(folder, model.config)
        if not (has_file(folder, OPTIMIZER) and has_file(folder, TRAINER_STATE)):
            return Source(folder, model, config, None)
        with unpacked(folder) as plain:
            progress, generators = read_progress(plain)
            return Source(
                folder, model, config, progress, read_tensors(plain / OPTIMIZER), generators
            )


def _recorded_config(folder: Path, model: ModelConfig) -> Config:
    """The configuration it was trained with, or the defaults around its model."""
    recorded = (read_json(folder / META) or {}).get("config")
    own = {f"model.{key}": value for key, value in model.model_dump(mode="json").items()}
    try:
        return resolve(flatten(recorded) if isinstance(recorded, dict) else {}, own)
    except UserError:
        return resolve({"name": model.name}, own)


def grown_snapshot(source: Source, growth: Growth, seed: int) -> Snapshot:
    """The larger model's checkpoint."""
    weights = grow_weights(growth, weight_tensors(source.model), seed)
    progress = replace(source.progress, hybrid={}) if source.progress else Progress()
    progress.facts = {
        **progress.facts,
        "grown_from": {"checkpoint": source.folder.name, "method": growth.method},
    }
    if not growth.preserves:
        progress.forget_best()
        progress.recent_losses = []
    meta = read_json(source.folder / META) or {}
    return Snapshot(
        config=source.config.model_copy(update={"model": growth.new}),
        progress=progress,
        weights=weights,
        state=grow_state(growth, source.state, seed),
        random=source.random,
        tokenizer=own_tokenizer(source.folder),
        run_id=str(meta.get("run_id") or ""),
        run_path=str(meta.get("run_path") or ""),
        end_ids=end_ids(source.folder),
    )


def model_of(snapshot: Snapshot) -> LanguageModel:
    """The model of a snapshot, with its weights."""
    config = snapshot.config.model
    with skipped_initialization():
        model = LanguageModel(config)
    weights = dict(snapshot.weights)
    if config.tie_embeddings:
        body = "transformer.wte" if config.flavour == "gpt2" else "model.embed_tokens"
        weights["lm_head.weight"] = weights[f"{body}.weight"]
    model.load_state_dict(weights, assign=False)
    return model


def check_growth(source: Source, growth: Growth, snapshot: Snapshot, ids_BT: Tensor) -> Measured:
    """Compare the two models on token ids (B, T). Raises GrowthError where a lossless growth
    changes what the model says by more than rounding."""
    found = measure(source.model, model_of(snapshot), ids_BT)
    if growth.preserves and not found.relative <= BOUND:
        raise GrowthError(
            f"The larger model differs: its logits by {found.difference:.3g} where the largest is "
            f"{found.largest:.3g}, its loss {found.loss_after:.4f} after {found.loss_before:.4f}. "
            "Nothing was written."
        )
    return found


def write_grown(
    output: Path, source: Source, snapshot: Snapshot, progress: Callable[[], None] = lambda: None
) -> None:
    """Write the larger model's folder in one go. Raises RunError, OSError."""
    staging = output.with_name(f".{output.name}.growing")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        written = staging / "model"
        if source.weights_only:
            written.mkdir()
            write_model(written, snapshot, progress)
            for path in written.iterdir():
                fsync_file(path)
            fsync_directory(written)
        else:
            written = write_checkpoint(staging, snapshot, progress)
        written.rename(output)
        fsync_directory(output.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def sequences(tokens: Sequence[int] | Any, length: int, most: int) -> Tensor:
    """Up to `most` sequences of `length` tokens (fewer if there are fewer), (B, T)."""
    ids = torch.as_tensor([int(token) for token in tokens[: length * most]])
    count = max(1, len(ids) // length)
    return ids[: count * length].view(count, -1)
