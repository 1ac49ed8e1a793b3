"""What a command line asks for: a new run's configuration, or a run and checkpoint to continue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.checkpoints.catalogue import META
from shared.errors import UserError
from shared.files import read_json
from shared.run.directory import RunDirectory, find_run
from shared.text import one_line
from trainer.checkpoint.finding import find_checkpoint, packed_or_plain
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
        section = self.config.checkpoint.model_copy(update={"begin_from": str(self.checkpoint)})
        return self.config.model_copy(update={"checkpoint": section})


def new_run(source: Settings, file: Settings, flags: Settings, *, preset: bool) -> Config:
    """The configuration of a new run, with absolute paths.

    The data's vocabulary size replaces a preset's, unless a person set one.
    """
    config = resolve(source, file, flags)
    explicit = "model.vocab_size" in flags or (
        "model.vocab_size" in file or (not preset and "model.vocab_size" in source)
    )
    if not explicit:
        from trainer.loop.sources import data_vocabulary

        vocabulary = data_vocabulary(config)
        if vocabulary is not None:
            flags = {**flags, "model.vocab_size": vocabulary}
            config = resolve(source, file, flags)
    return absolute(config)


def absolute(config: Config) -> Config:
    """The configuration with absolute paths: a run may be resumed from any working directory."""
    settings = flatten(to_plain(config))
    for key in (
        "data.path",
        "data.val_path",
        "data.tokenizer",
        "checkpoint.dir",
        "checkpoint.begin_from",
    ):
        if settings[key] is not None:
            settings[key] = str(Path(settings[key]).expanduser().resolve())
    return resolve(settings)


def resume_request(
    reference: str, runs_dir: Path, overrides: Mapping[str, Any], name: str | None = None
) -> LaunchRequest:
    """What `--resume REFERENCE` means: `latest`, a run, a checkpoint folder or a file in one.

    A checkpoint of a run continues that run; any other starts a new run. Raises UserError when
    there is no such run or checkpoint.
    """
    path = packed_or_plain(Path(reference)) or Path(reference)
    if reference == "latest" or not path.exists():
        run = find_run(runs_dir, name if reference == "latest" and name else reference)
        return continue_run(run, overrides)
    run = RunDirectory(path.resolve())
    if run.config_path.is_file() or run.state_path.is_file():  # a run that lost one of them too
        return continue_run(run, overrides)
    above = RunDirectory(path.resolve().parent)
    if path.resolve() == above.checkpoints.resolve() and above.config_path.is_file():
        return continue_run(above, overrides)  # its newest is chosen under the run's lock
    folder = find_checkpoint(path)
    run_of = owner(folder)
    if run_of is not None:
        return continue_run(run_of, overrides, folder)
    meta = read_json(folder / META)
    if meta is None or not isinstance(meta.get("config"), dict):
        raise UserError(
            f"{one_line(folder)} cannot be trained on: it has no {META} with its configuration."
        )
    return LaunchRequest(absolute(resolve(flatten(meta["config"]), overrides)), None, folder)


def owner(checkpoint: Path) -> RunDirectory | None:
    """The run whose checkpoints folder holds `checkpoint`; None when it belongs to no known run."""
    near = RunDirectory(checkpoint.parent.parent)
    if checkpoint.parent.name == "checkpoints" and near.config_path.is_file():
        return near
    meta = read_json(checkpoint / META) or {}
    recorded = meta.get("run_path")
    if isinstance(recorded, str):
        run = RunDirectory(Path(recorded))
        if run.config_path.is_file() and run.checkpoints.resolve() == checkpoint.parent:
            return run
    return None


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
