"""Whether a run can start from a checkpoint: with its weights, or from its step on."""

from __future__ import annotations

import shlex
from pathlib import Path

from shared.checkpoints.catalogue import is_adapter
from shared.errors import UserError
from shared.text import one_line, plural
from trainer.checkpoint.loading import check_optimizer, check_weights, model_config, verify
from trainer.checkpoint.opening import differing_tokens, own_tokenizer
from trainer.checkpoint.progress import read_progress
from trainer.config.model import ModelConfig
from trainer.loop.plan import Plan, optimizer_of
from trainer.loop.resumable import check_same_model, check_steps_left, check_time_left
from trainer.model.parts.registry import base_of


def check_beginning(planned: Plan, folder: Path) -> None:
    """Raise UserError if `planned` cannot begin with the weights in `folder`, RunError if they are
    damaged.

    Refused are another model, and data made with another tokenizer than the model's own.
    """
    verify(folder)
    model = planned.config.model
    check_shape(model if is_adapter(folder) else base_of(model), folder)
    check_weights(model, folder)
    own, ours = own_tokenizer(folder), planned.sources.tokenizer
    if own is None or ours is None or own.hash == ours.hash:
        return
    differing = differing_tokens(own, ours)
    if differing:
        raise UserError(
            f"The training data was made with another tokenizer than the model in "
            f"{one_line(folder)}: {differing} differ; prepare the text again with: "
            f"trainer prepare-data --tokenizer {shlex.quote(one_line(folder))} --text …"
        )


def check_shape(model: ModelConfig, folder: Path, base: str | None = None) -> None:
    """Raise UserError naming every difference when the checkpoint holds another model.

    The base of adapters is sought at `base` first.
    """
    check_same_model(model_config(folder, base), model, folder)


def check_resumable(
    planned: Plan,
    folder: Path,
    *,
    verified: bool = False,
    ended: bool = True,
    new_run: bool = False,
) -> None:
    """Raise UserError if `planned` cannot resume from the checkpoint `folder`, RunError if it is
    damaged.

    Refused are another model, optimizer or tokenizer, and a run without steps left. A run that has
    made its last step but not `ended` (it was killed before it could record that) may resume, to
    end. A `new_run` has all its time and patience left.
    """
    if not verified:
        verify(folder)
    check_shape(planned.config.model, folder, planned.config.checkpoint.begin_from)
    progress, _ = read_progress(folder)
    check_optimizer(optimizer_of(planned.config), folder)
    if ended:
        check_steps_left(planned.max_steps, progress, planned.config)
    if ended and not new_run:
        check_time_left(planned.config, progress)
    saved, here = progress.facts.get("data") or {}, planned.sources.identity
    if "reference" in saved and "reference" in here and saved["reference"] != here["reference"]:
        raise UserError(
            f"The model in {one_line(planned.config.checkpoint.begin_from)} has changed since the "
            "run began from it, and it is the run's reference: put the old one back, or name its "
            "place with --set checkpoint.begin_from=PLACE."
        )
    every = "steps_per_iteration"
    if every in saved and every in here and saved[every] != here[every]:
        raise UserError(
            f"An iteration of the run has {plural(saved[every], 'optimizer step')}, and would now "
            f"have {here[every]}: leave rl.epochs, rl.prompts_per_iteration, rl.group_size and the "
            "answers of a step as they are, or begin a new run from the checkpoint."
        )
    if saved and saved.get("tokenizer") != here.get("tokenizer"):
        raise UserError(
            f"The run was trained with tokenizer {saved.get('tokenizer')}, but this data was "
            f"made with {here.get('tokenizer')}; resume with the data it was trained on."
        )
