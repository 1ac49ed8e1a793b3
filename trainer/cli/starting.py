"""From settings to a run: created or found, resumed or begun, here or in the background."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shared.catalogue import FINAL, list_checkpoints, newest_sound
from shared.errors import ExitCode, RunError, UserError
from shared.files import read_json, replace_file, write_json
from shared.records import RunState
from shared.run_directory import RunDirectory, create_run, find_run
from shared.text import one_line
from trainer.config.resolve import Settings, flatten, load_source, parse_yaml, resolve, to_plain
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


def continue_run(
    run: RunDirectory, overrides: Mapping[str, Any], checkpoint: Path | None = None
) -> Start:
    """Continue `run` with its own configuration and `overrides`. Raises UserError."""
    try:
        raw = parse_yaml(run.config_path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"Run {run.run_id} cannot be continued: its config.yaml cannot be read ({error})."
        ) from error
    if not isinstance(raw, dict):
        raise UserError(f"Run {run.run_id} cannot be continued: its config.yaml holds no keys.")
    return Start(absolute(resolve(flatten(raw), overrides)), run, checkpoint)


def load_layers(config: str | None) -> tuple[Settings, Settings, bool]:
    """Settings of `--config`: as a preset layer or as a file layer; whether it is a preset."""
    if config is None:
        return {}, {}, False
    settings, name = load_source(config)
    from trainer.config.resolve import preset_names

    is_preset = name in preset_names() and not Path(config).is_file()
    return (settings, {}, True) if is_preset else ({}, settings, False)


def launch(start: Start, runs_dir: Path, *, detach: bool) -> int:
    """Train, in this process or in the background; returns the exit code."""
    if detach:
        return _launch_detached(start, runs_dir)
    return train_here(start, runs_dir)


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
        options += ["--set", f"{key}={yaml.safe_dump(value, default_flow_style=True).strip()}"]
    return options


def queue_run(config: Config, runs_dir: Path) -> RunDirectory:
    """Create a run that waits to be started: its folder, configuration and state."""
    run = create_run(runs_dir, config.name)
    _place_checkpoints(run, config)
    text = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
    replace_file(run.config_path, text.encode())
    state = RunState(
        run_id=run.run_id,
        run_name=one_line(config.name),
        status="queued",
        max_steps=config.train.max_steps,
        started_at=time.time(),
    )
    write_json(run.state_path, state.to_json())
    return run


def _place_checkpoints(run: RunDirectory, config: Config) -> None:
    """Put the checkpoints where `checkpoint.dir` says, with a link in the run directory."""
    if config.checkpoint.dir is None:
        return
    folder = Path(config.checkpoint.dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--checkpoint-dir {folder} cannot be made: {error.strerror}; choose another."
        ) from error
    run.checkpoints.rmdir()
    run.checkpoints.symlink_to(folder.resolve())


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
    from trainer.loop.session import build, check_shape, check_steps, plan, restore
    from trainer.loop.training import Training
    from trainer.model.parameters import count_parameters, dimensions

    planned = plan(start.config)
    config = start.config
    run = start.run
    if start.checkpoint:
        check_shape(config.model, start.checkpoint)
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
        checkpoint = start.checkpoint or _newest(run, writer)
        if checkpoint is not None and start.run is not None:
            check_shape(config.model, checkpoint)
            check_steps(checkpoint, planned.max_steps)
        session = build(planned)
        if checkpoint is not None:
            restore(session, checkpoint)
            if start.checkpoint and start.run:
                step, attempt = session.progress.step, writer.state.attempt
                for name in set_aside_newer(run, step, attempt):
                    writer.event("checkpoint_superseded", name=name)
        writer.write_config(to_plain(config))
        return Training(session, writer).run()
    except UserError as error:
        writer.say(f"[ERROR] {error}")
        writer.finish("failed", int(error.exit_code), str(error))
        raise
    except BaseException as error:
        writer.__exit__(type(error), error, error.__traceback__)
        raise


def _newest(run: RunDirectory, writer: Any) -> Path | None:
    """The newest sound checkpoint of a run; broken ones are told and left where they are."""
    newest, problems = newest_sound(run.checkpoints)
    for problem in problems:
        writer.event("checkpoint_damaged", message=problem)
        writer.say(f"[WARN] {problem}; using an older checkpoint")
    if newest is None and problems:
        raise RunError(f"No checkpoint of {run.run_id} is sound: {problems[0]}.")
    return newest.path if newest else None


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
