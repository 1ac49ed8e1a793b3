"""Writing a checkpoint: a temporary sibling, fsynced, manifest last, renamed, verified."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from shared.checkpoints.catalogue import (
    ADAPTER,
    FINAL,
    META,
    OPTIMIZER,
    TRAINER_STATE,
    WEIGHTS,
    remove_checkpoint,
    step_folder,
    weights_name,
)
from shared.checkpoints.manifest import MANIFEST, verify_folder, write_manifest
from shared.errors import RunError
from shared.files import fsync_directory, fsync_file, replace_link, write_json
from shared.text import format_bytes
from trainer.checkpoint.adapters import adapter_tensors, write_adapter_files
from trainer.checkpoint.disk import Disk
from trainer.checkpoint.hf_format import generation_config, hf_config
from trainer.checkpoint.progress import Progress
from trainer.checkpoint.random_state import all_states
from trainer.checkpoint.tensor_file import write_tensors
from trainer.config.model import ModelConfig
from trainer.config.resolve import to_plain
from trainer.config.schema import Config
from trainer.distributed.group import ALONE, Group
from trainer.model.base import Base
from trainer.model.dimensions import dimensions
from trainer.model.language_model import LanguageModel
from trainer.model.parts.registry import owner, part_files, rests_on_base
from trainer.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from trainer.data.tokenizer import Tokenizer


SMALL_FILES = 256 << 10  # bytes for JSON files, and what filesystems round up
_TOKEN_BYTES = 120  # of the tokenizer's files, for each token; GPT-2's take 72
_TENSOR_BYTES = 300  # of a safetensors header, for each tensor
_LOSS_BYTES = 24  # of trainer_state.json, for each recent loss
_DISK = Disk()
TRIES = 3  # after an I/O error; a full disk is not retried immediately


@dataclass(frozen=True)
class Snapshot:
    """Everything a checkpoint holds, to be written by `write_checkpoint`."""

    config: Config
    progress: Progress
    weights: dict[str, Tensor]
    state: dict[str, Tensor]
    random: dict[str, Any]
    tokenizer: Tokenizer | None
    run_id: str
    run_path: str
    #: Tokens that end a text beside the tokenizer's own.
    end_ids: frozenset[int] = frozenset()
    #: Where the frozen weights are from, for adapters.
    base: Base | None = None

    @property
    def bytes(self) -> int:
        """The most bytes that the checkpoint takes on disk."""
        tensors = (*self.weights.values(), *self.state.values())
        text = self.tokenizer.vocab_size if self.tokenizer else 0
        small = (
            _TOKEN_BYTES * text
            + _TENSOR_BYTES * len(tensors)
            + _LOSS_BYTES * len(self.progress.recent_losses)
        )
        return sum(tensor.nbytes for tensor in tensors) + small + SMALL_FILES


def weight_tensors(model: LanguageModel) -> dict[str, Tensor]:
    """The weights under their transformers names; a tied output head is left out, and so are
    frozen weights, which are those of another folder.
    """
    of = owner(model.config)
    frozen = rests_on_base(model.config)
    return {
        name: value.detach().contiguous()
        for name, value in model.state_dict().items()
        if not (name == "lm_head.weight" and model.config.tie_embeddings)
        and not (frozen and of(name) is None)
    }


def training_state(
    optimizer: Optimizer, group: Group = ALONE
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's state with torch's generators, and the generators that go into JSON.

    To be called by every rank of `group`.
    """
    generators, plain = all_states(group)
    tensors = {**optimizer.tensors(), **generators}
    return {name: value.detach().contiguous() for name, value in tensors.items()}, plain


def write_checkpoint(
    checkpoints: Path,
    snapshot: Snapshot,
    progress: Callable[[], None] = lambda: None,
    disk: Disk = _DISK,
) -> Path:
    """Write `step_<N>` and verify every file by reading it back; returns the folder.

    An existing folder of that name must be damaged and is replaced. Raises RunError if the disk
    fails or the bytes read back differ, and then leaves nothing behind. `progress` is called
    between the stages.
    """
    step = snapshot.progress.step
    folder = step_folder(checkpoints, step)
    temporary = checkpoints / f".tmp-{folder.name}-{os.getpid()}"
    for left in reversed(range(TRIES)):
        try:
            _write_once(temporary, snapshot, progress, disk)
            if folder.exists():
                remove_checkpoint(folder)
            temporary.rename(folder)
            fsync_directory(checkpoints)
        except Exception as error:
            shutil.rmtree(temporary, ignore_errors=True)
            # After a failed fsync the pages count as clean, so everything must be written again.
            if left and (isinstance(error, RunError) or _erred(error)):
                continue
            if isinstance(error, RunError):
                raise
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise RunError(
                f"The checkpoint of step {step} could not be saved: {reason}."
            ) from error
        return folder
    raise AssertionError


def _erred(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EIO


def _write_once(
    temporary: Path, snapshot: Snapshot, progress: Callable[[], None], disk: Disk
) -> None:
    """Write, fsync and verify a checkpoint in the folder `temporary`."""
    shutil.rmtree(temporary, ignore_errors=True)
    free = disk.free_bytes(temporary.parent)
    if free < snapshot.bytes:
        raise OSError(
            errno.ENOSPC,
            f"no space left: it needs {format_bytes(snapshot.bytes)}, and "
            f"{format_bytes(free)} are free",
        )
    # Without parents: if the disk is no longer mounted, nothing must be written below its mount
    # point.
    temporary.mkdir()
    _write_files(temporary, snapshot, progress, disk)
    for path in temporary.iterdir():
        fsync_file(path)
        progress()
    state = snapshot.progress
    facts = {
        "run_id": snapshot.run_id,
        "loss": state.loss,
        "val_loss": state.val_loss,
        **({} if state.val_reward is None else {"val_reward": state.val_reward}),
        "tokens_total": state.tokens_total,
        "torch": torch.__version__,
        **state.facts,
    }
    write_manifest(temporary, state.step, facts)
    disk.written(temporary / MANIFEST)
    progress()
    problems = verify_folder(temporary)
    if problems:
        raise RunError(f"The checkpoint of step {state.step} reads back wrong: {problems[0]}.")
    fsync_directory(temporary)


def _write_files(folder: Path, snapshot: Snapshot, advance: Callable[[], None], disk: Disk) -> None:
    write_model(folder, snapshot, advance, disk)
    write_tensors(folder / OPTIMIZER, snapshot.state)
    disk.written(folder / OPTIMIZER)
    advance()
    progress = snapshot.progress
    write_json(
        folder / TRAINER_STATE,
        {
            "schema_version": 1,
            **{k: v for k, v in vars(progress).items() if k != "facts"},
            "data": progress.facts.get("data"),
            "compute": progress.facts.get("compute"),
            "random": snapshot.random,
        },
    )


def write_model(
    folder: Path,
    snapshot: Snapshot,
    advance: Callable[[], None] = lambda: None,
    disk: Disk = _DISK,
) -> None:
    """Write the files of a model: weights, their configuration, tokenizer and meta.json."""
    model, tokenizer = snapshot.config.model, snapshot.tokenizer
    for name, weights in _weight_files(model, snapshot.weights).items():
        write_tensors(folder / name, weights, {"format": "pt"})
        disk.written(folder / name)
        advance()
    eos_id = tokenizer.eos_id if tokenizer else None
    pad_id = tokenizer.pad_id if tokenizer else None
    begin = {"bos_token_id": tokenizer.bos_id} if tokenizer else {}
    if snapshot.base is not None:
        write_adapter_files(folder, model, snapshot.base)
    else:
        write_json(folder / "config.json", hf_config(model, eos_id, pad_id) | begin)
    generation = generation_config(eos_id, pad_id, snapshot.end_ids) | begin
    write_json(folder / "generation_config.json", generation)
    progress = snapshot.progress
    write_json(
        folder / META,
        {
            "version": 1,
            "run_id": snapshot.run_id,
            "run_path": snapshot.run_path,
            "step": progress.step,
            "loss": progress.loss,
            "val_loss": progress.val_loss,
            **({} if progress.val_reward is None else {"val_reward": progress.val_reward}),
            "config": to_plain(snapshot.config),
        },
    )
    if tokenizer:
        # The one in use; the file beside the data may have changed.
        tokenizer.save(folder, dimensions(model).T)


def _weight_files(model: ModelConfig, weights: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The weights by the file they go to: model.safetensors, or one of a part's own."""
    if rests_on_base(model):
        return {ADAPTER: adapter_tensors(weights)}
    of = owner(model)
    files: dict[str, dict[str, Tensor]] = {WEIGHTS: {}, **{file: {} for file in part_files(model)}}
    for name, weight in weights.items():
        part = of(name)
        files[(part and part.weights_file) or WEIGHTS][name] = weight
    return files


def write_final(checkpoints: Path, folder: Path) -> Path:
    """Make `final/` the same checkpoint as `folder`, with hard links if the filesystem has them."""
    final = checkpoints / FINAL
    temporary = checkpoints / f".tmp-{FINAL}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for path in folder.iterdir():
        try:
            os.link(path, temporary / path.name)
        except OSError:
            shutil.copyfile(path, temporary / path.name)
            fsync_file(temporary / path.name)
    fsync_directory(temporary)
    if final.exists():
        remove_checkpoint(final)
    temporary.rename(final)
    fsync_directory(checkpoints)
    return final


def link_guide_names(checkpoints: Path, folder: Path, iteration: int | None = None) -> None:
    """Link the guides' file names beside the folders: `ckpt_step_N.safetensors` and so on; for an
    `iteration` of reinforcement learning `rl-iter-N`, the folder itself.
    """
    if iteration is not None:
        replace_link(checkpoints / f"rl-iter-{iteration}", folder.name)
    file = weights_name(folder)
    replace_link(checkpoints / f"ckpt_{folder.name}.safetensors", f"{folder.name}/{file}")
    for link, target in (
        ("ckpt_latest.safetensors", "latest"),
        ("latest.safetensors", "latest"),
        ("ckpt_best.safetensors", "best"),
    ):
        if (checkpoints / target).exists():
            replace_link(checkpoints / link, f"{target}/{file}")
    for old in (*checkpoints.glob("ckpt_step_*.safetensors"), *checkpoints.glob("rl-iter-*")):
        if old.is_symlink() and not old.exists():  # its folder was pruned
            with contextlib.suppress(FileNotFoundError):
                old.unlink()
