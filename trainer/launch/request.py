"""What a command line asks for: a new run's configuration, or a run and checkpoint to continue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.checkpoints.catalogue import BEST, LATEST, META
from shared.checkpoints.prune import named
from shared.checkpoints.resumable import why_no_trainer_resumes
from shared.errors import UserError
from shared.files import absolute_path, read_json
from shared.hub.names import pinned_name
from shared.run.directory import RunDirectory
from shared.run.finding import LATEST_RUN, is_path
from shared.text import one_line
from trainer.checkpoint.finding import find_checkpoint
from trainer.checkpoint.references import owner_of_checkpoint, resolve_reference
from trainer.config.resolve import (
    Settings,
    flatten,
    load_source,
    parse_settings,
    read_text,
    resolve,
    to_plain,
)
from trainer.config.schema import Config


@dataclass(frozen=True)
class LaunchRequest:
    """What to train: a configuration, the run to continue, the checkpoint to start from.

    Without a run it is a new one; without a checkpoint a continued run starts from its newest.
    """

    config: Config
    run: RunDirectory | None = None
    checkpoint: Path | None = None

    def new_config(self) -> Config:
        """The configuration with the checkpoint in it, as `checkpoint.begin_from`."""
        if self.checkpoint is None:
            return self.config
        begun = {"begin_from": str(self.checkpoint), "begin_with": "state"}
        section = self.config.checkpoint.model_copy(update=begun)
        return self.config.model_copy(update={"checkpoint": section})


def new_run(source: Settings, file: Settings, flags: Settings, *, preset: bool) -> Config:
    """The configuration of a new run, with absolute paths.

    The data's vocabulary size replaces a preset's, unless a person set one.
    """
    source, file, flags = choose_length(source, file, flags)
    config = resolve(source, file, flags)
    explicit = "model.vocab_size" in flags or (
        "model.vocab_size" in file or (not preset and "model.vocab_size" in source)
    )
    if not explicit:
        vocabulary = _data_vocabulary(config)
        if vocabulary is not None:
            flags = {**flags, "model.vocab_size": vocabulary}
            config = resolve(source, file, flags)
    return absolute(config)


def _data_vocabulary(config: Config) -> int | None:
    """The vocabulary size in the data's sidecar; None without a sidecar."""
    if config.data.dataset != "tokens":
        return None
    from trainer.data.tokens import find_tokens, read_sidecar

    for place in (config.data.path, *(source.path for source in config.data.sources or ())):
        path = None if place is None else find_tokens(place)
        sidecar = read_sidecar(path) if path is not None and path.is_file() else None
        if sidecar:
            return sidecar.vocab_size
    return None


def choose_length(*layers: Settings) -> list[Settings]:
    """The layers, where a number of steps in one replaces the epochs of those before, and the
    other way round.

    Raises UserError when one layer has both: one of them would be ignored.
    """
    chosen: list[Settings] = []
    for layer in layers:
        steps, epochs = layer.get("train.max_steps"), layer.get("train.epochs")
        if steps is not None and epochs is not None:
            raise UserError(
                f"max_steps {one_line(steps, 20)} and epochs {one_line(epochs, 20)} are both "
                "given, and each sets the length of the run; give one of them."
            )
        other = {}
        if epochs is not None:
            other = {"train.max_steps": None}
        elif steps is not None:
            other = {"train.epochs": None}
        chosen.append({**layer, **other})
    return chosen


def absolute(config: Config) -> Config:
    """The configuration with absolute paths: a run may be resumed from any working directory.

    A model of the Hub stays a name.
    """
    settings = flatten(to_plain(config))
    for key in (
        "data.path",
        "data.val_path",
        "data.tokenizer",
        "checkpoint.dir",
        "checkpoint.begin_from",
        "rl.prompts",
        "rl.val_prompts",
    ):
        if settings[key] is not None and pinned_name(settings[key]) is None:
            settings[key] = str(absolute_path(settings[key]))
    for source in settings["data.sources"] or ():
        source["path"] = str(absolute_path(source["path"]))
    return resolve(settings)


def resume_request(
    reference: str, runs_dir: Path, overrides: Mapping[str, Any], name: str | None = None
) -> LaunchRequest:
    """What `--resume REFERENCE` means: a run, RUN:STEP, a checkpoint folder or a file in one.

    A checkpoint of a run continues that run; any other starts a new run. Raises UserError when
    there is no such run or checkpoint.
    """
    (overrides,) = choose_length(dict(overrides))
    # `--resume latest --name NAME`, as in the guides, is the newest run of that name.
    meant = resolve_reference(name if reference == LATEST_RUN and name else reference, runs_dir)
    if meant.run is not None:
        # Without a checkpoint, the newest is chosen under the run's lock.
        return continue_run(meant.run, overrides, meant.find() if meant.checkpoint else None)
    folder = meant.find()
    run_of = owner_of_checkpoint(folder)
    if run_of is not None:
        return continue_run(run_of, overrides, folder)
    meta = read_json(folder / META)
    if meta is None or not isinstance(meta.get("config"), dict):
        raise UserError(
            f"{one_line(folder)} cannot be resumed: it has no {META} with its configuration. To "
            "train its weights in a new run, give --begin-from."
        )
    return LaunchRequest(absolute(resolve(flatten(meta["config"]), overrides)), None, folder)


def checkpoint_meant(run: RunDirectory | None, reference: str, runs_dir: Path) -> Path:
    """The checkpoint that `--from` names: a step or name of `run`, or else any reference."""
    if run is not None and reference.strip() and not is_path(reference):
        try:
            return find_checkpoint(run.checkpoints / named(run.checkpoints, reference))
        except UserError:
            if reference.removeprefix("step_").isdecimal() or reference in (LATEST, BEST):
                raise
    return resolve_reference(reference, runs_dir).find()


def check_preset(preset: Settings, request: LaunchRequest) -> None:
    """Raise UserError when `--config PRESET` names another shape than the resumed run has.

    A run is resumed with its own configuration, but the guides' commands repeat the preset.
    """
    if not preset:
        return
    model, asked = request.config.model, resolve(preset).model
    for key in ("flavour", "hidden_size", "num_layers", "num_heads"):
        ours, theirs = getattr(model, key), getattr(asked, key)
        if ours != theirs:
            raise UserError(
                f"--config {asked.name} has model.{key} {theirs}, but the run to resume was "
                f"trained with {ours}; leave --config out, or name the run's own preset."
            )


def continue_run(
    run: RunDirectory, overrides: Mapping[str, Any], checkpoint: Path | None = None
) -> LaunchRequest:
    """Continue `run` with its own configuration and `overrides`. Raises UserError."""
    if reason := why_no_trainer_resumes(run):
        raise UserError(reason)
    state = run.read_state()
    if state is not None and state.stage == "pipeline":
        raise UserError(
            f"{one_line(run.run_id)} is a pipeline; continue it with `trainer resume`, or name the "
            "run of one of its stages."
        )
    settings = parse_settings(read_text(run.config_path), f"The config.yaml of {run.run_id}")
    if not settings:
        raise UserError(
            f"The config.yaml of {one_line(run.run_id)} is empty; restore it from the copy in the "
            "meta.json of any of its checkpoints."
        )
    config = absolute(resolve(settings, overrides))
    asked, present = config.checkpoint.dir, run.checkpoints.resolve()
    if asked is not None and Path(asked) != present:
        raise UserError(
            f"--checkpoint-dir {asked} is not where the checkpoints of {run.run_id} are, "
            f"{present}; a continued run keeps its folder."
        )
    return LaunchRequest(config, run, checkpoint)


def load_layers(config: str | None) -> tuple[Settings, Settings, bool]:
    """Settings of `--config`: as a preset layer or as a file layer; whether it is a preset."""
    if config is None:
        return {}, {}, False
    settings, is_preset = load_source(config)
    return (settings, {}, True) if is_preset else ({}, settings, False)
