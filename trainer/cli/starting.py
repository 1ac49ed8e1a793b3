"""From settings to a run: created or found, resumed or begun, here or in the background."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.catalogue import FINAL, list_checkpoints, newest_sound
from shared.errors import ExitCode, RunError, UserError
from shared.files import read_json, replace_file, write_json
from shared.records import RunState
from shared.run_directory import RunDirectory, create_run, find_run, slug
from shared.text import one_line
from trainer.config.resolve import (
    Settings,
    assignment,
    flatten,
    load_source,
    parse_settings,
    read_text,
    resolve,
    to_plain,
    to_yaml,
)
from trainer.config.schema import Config

META = "meta.json"


@dataclass(frozen=True)
class Start:
    """What to train: a configuration, the run to continue, the checkpoint to begin from."""

    config: Config
    run: RunDirectory | None = None
    checkpoint: Path | None = None


def new_run(source: Settings, file: Settings, flags: Settings, *, preset: bool) -> Config:
    """The configuration of a new run, paths made absolute.

    A preset's vocabulary size gives way to the data's own, unless a person set it.
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
    """Paths as seen from anywhere: a run is resumed from other folders than it was started in."""
    settings = flatten(to_plain(config))
    for key in ("data.path", "data.val_path", "data.tokenizer", "checkpoint.dir"):
        if settings[key] is not None:
            settings[key] = str(Path(settings[key]).expanduser().resolve())
    return resolve(settings)


def find_start(
    reference: str, runs_dir: Path, overrides: Mapping[str, Any], name: str | None = None
) -> Start:
    """What `--resume REFERENCE` means: `latest`, a run, a checkpoint folder or a file in one.

    A checkpoint that belongs to a run continues that run; any other begins a new one from it.
    Raises UserError when it means nothing.
    """
    path = Path(reference)
    if reference == "latest" or not path.exists():
        run = find_run(runs_dir, name if reference == "latest" and name else reference)
        return continue_run(run, overrides)
    if (path / "run_state.json").is_file():
        return continue_run(RunDirectory(path.resolve()), overrides)
    from trainer.checkpoint.loading import find_checkpoint

    folder = find_checkpoint(path)
    run_of = owner(folder)
    if run_of is not None:
        return continue_run(run_of, overrides, folder)
    meta = read_json(folder / META)
    if meta is None or not isinstance(meta.get("config"), dict):
        raise UserError(
            f"{one_line(folder)} cannot be trained on: it has no {META} with its configuration."
        )
    return Start(absolute(resolve(flatten(meta["config"]), overrides)), None, folder)


def owner(checkpoint: Path) -> RunDirectory | None:
    """The run whose checkpoints folder holds `checkpoint`, if it is known."""
    near = RunDirectory(checkpoint.parent.parent)
    if checkpoint.parent.name == "checkpoints" and near.state_path.is_file():
        return near
    meta = read_json(checkpoint / META) or {}
    told = meta.get("run_path")
    if isinstance(told, str):
        run = RunDirectory(Path(told))
        if run.state_path.is_file() and run.checkpoints.resolve() == checkpoint.parent:
            return run
    return None


def check_preset(preset: Settings, start: Start) -> None:
    """Raise UserError when `--config PRESET` names another shape than the run to be resumed has.

    A run is resumed with its own configuration; the guides name the preset all the same.
    """
    if not preset:
        return
    model, asked = start.config.model, resolve(preset).model
    for key in ("flavour", "hidden_size", "num_layers", "num_heads"):
        ours, theirs = getattr(model, key), getattr(asked, key)
        if ours != theirs:
            raise UserError(
                f"--config {asked.name} has model.{key} {theirs}, but the run to resume was "
                f"trained with {ours}; leave --config out, or name the run's own preset."
            )


def continue_run(
    run: RunDirectory, overrides: Mapping[str, Any], checkpoint: Path | None = None
) -> Start:
    """Continue `run` with its own configuration and `overrides`. Raises UserError."""
    settings = parse_settings(read_text(run.config_path), f"The config.yaml of {run.run_id}")
    config = absolute(resolve(settings, overrides))
    asked, present = config.checkpoint.dir, run.checkpoints.resolve()
    if asked is not None and Path(asked) != present:
        raise UserError(
            f"--checkpoint-dir {asked} is not where the checkpoints of {run.run_id} are, "
            f"{present}; a continued run keeps its folder."
        )
    return Start(config, run, checkpoint)


def load_layers(config: str | None) -> tuple[Settings, Settings, bool]:
    """Settings of `--config`: as a preset layer or as a file layer; whether it is a preset."""
    if config is None:
        return {}, {}, False
    settings, is_preset = load_source(config)
    return (settings, {}, True) if is_preset else ({}, settings, False)


def launch(start: Start, runs_dir: Path, *, detach: bool) -> int:
    """Train, in this process or in the background; returns the exit code."""
    if detach:
        return _launch_detached(start, runs_dir)
    return train_here(start, runs_dir)


def show_plan(start: Start) -> int:
    """Print what would be trained, and on what, without making a run."""
    from trainer.loop.session import plan

    planned = plan(start.config)
    for line in planned.describe():
        print(line)
    print(f"Configuration:\n{to_yaml(start.config)}")
    return ExitCode.OK


def _launch_detached(start: Start, runs_dir: Path) -> int:
    from shared.launch import resume_detached, wait_until_running
    from trainer.loop.session import plan

    plan(start.config)  # what is wrong is told here, not in a log
    run = start.run
    options: list[str] = []
    if run is None:
        run = queue_run(start.config, runs_dir)
        if start.checkpoint:
            options = ["--from", str(start.checkpoint)]
    else:
        options = _as_options(start)
    process = resume_detached(run, options)
    status = wait_until_running(run, process)
    print(f"{run.run_id} is {status} (process {process.pid})")
    print(f"watch: train-monitor --runs-dir {run.path.parent}")
    print(f"stop:  trainer stop {run.path}")
    return ExitCode.OK


def _as_options(start: Start) -> list[str]:
    """The overrides of a continued run as `--set` options of its background process."""
    options = ["--from", str(start.checkpoint)] if start.checkpoint else []
    for key, value in flatten(to_plain(start.config)).items():
        options += ["--set", assignment(key, value)]
    return options


def queue_run(config: Config, runs_dir: Path) -> RunDirectory:
    """Create a run that waits to be started: its folder, configuration and state."""
    slug(config.name)  # a name that will not do is told before any folder is made
    elsewhere = _make_checkpoint_folder(config)
    run = create_run(runs_dir, config.name)
    if elsewhere is not None:
        run.checkpoints.rmdir()
        run.checkpoints.symlink_to(elsewhere)
    replace_file(run.config_path, to_yaml(config).encode())
    state = RunState(
        run_id=run.run_id,
        run_name=one_line(config.name),
        status="queued",
        max_steps=config.train.max_steps,
        started_at=time.time(),
    )
    write_json(run.state_path, state.to_json())
    return run


def _make_checkpoint_folder(config: Config) -> Path | None:
    """The folder that `checkpoint.dir` asks for; the run directory gets a link to it."""
    if config.checkpoint.dir is None:
        return None
    folder = Path(config.checkpoint.dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--checkpoint-dir {folder} cannot be made: {error.strerror}; choose another."
        ) from error
    return folder.resolve()


def check_checkpoint_folder(config: Config) -> None:
    """Raise UserError when `checkpoint.dir` already holds another run's checkpoints."""
    if config.checkpoint.dir is None:
        return
    folder = Path(config.checkpoint.dir)
    present = list_checkpoints(folder)
    if present:
        raise UserError(
            f"--checkpoint-dir {folder} already holds checkpoints ({present[-1].name}); resume "
            f"them with --resume {folder}, or choose another folder."
        )


def set_aside_newer(run: RunDirectory, step: int, attempt: int) -> list[str]:
    """Rename checkpoints of later steps, so that the next resume does not take them for the newest.

    They are kept, under a name the catalogue does not list.
    """
    moved: list[str] = []
    for info in list_checkpoints(run.checkpoints):
        if info.step > step or (info.name == FINAL and info.step >= step):
            info.path.rename(info.path.with_name(f"superseded_{attempt}_{info.name}"))
            moved.append(info.name)
    return moved


def train_here(start: Start, runs_dir: Path) -> int:
    """Train in this process."""
    from shared.run_writer import RunWriter
    from trainer.loop.session import build, check_resumable, plan, restore
    from trainer.loop.training import Training
    from trainer.model.parameters import count_parameters, dimensions

    planned = plan(start.config)
    config = start.config
    run = start.run
    checkpoint = start.checkpoint
    problems: list[str] = []
    if checkpoint is None and run is not None:
        checkpoint, problems = _newest(run)
    if checkpoint is not None:
        # Told before the run is touched: one that has ended well must not become a failed one.
        check_resumable(planned, checkpoint)
    if run is None:
        check_checkpoint_folder(config)
        run = queue_run(config, runs_dir)
    n = dimensions(config.model)
    writer = RunWriter(
        run=run,
        max_steps=planned.max_steps,
        device=planned.compute.describe(),
        git_commit=git_commit(),
        model={
            "name": config.model.name,
            "flavour": config.model.flavour,
            "parameters": count_parameters(config.model),
            "layers": n.L,
            "width": n.D,
            "vocab_size": n.V,
            "context": n.T,
        },
    )
    try:
        for problem in problems:
            writer.event("checkpoint_damaged", message=problem)
            writer.say(f"[WARN] {problem}; using an older checkpoint")
        session = build(planned)
        if checkpoint is not None:
            restore(session, checkpoint)
            if start.checkpoint and start.run:
                step, attempt = session.progress.step, writer.state.attempt
                for name in set_aside_newer(run, step, attempt):
                    writer.event("checkpoint_superseded", name=name)
        replace_file(run.config_path, to_yaml(config).encode())
        return Training(session, writer).run()
    except UserError as error:
        writer.say(f"[ERROR] {error}")
        writer.finish("failed", int(error.exit_code), str(error))
        raise
    except BaseException as error:
        writer.__exit__(type(error), error, error.__traceback__)
        raise


def _newest(run: RunDirectory) -> tuple[Path | None, list[str]]:
    """The newest sound checkpoint of a run, and what is wrong with newer ones."""
    newest, problems = newest_sound(run.checkpoints)
    if newest is None and problems:
        raise RunError(f"No checkpoint of {run.run_id} is sound: {problems[0]}.")
    return newest.path if newest else None, problems


def git_commit() -> str | None:
    """The commit of the working directory, when it is in a git repository."""
    import subprocess

    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None
