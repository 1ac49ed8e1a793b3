"""Starting what `starting` made out: checks first, then a run directory, a lock, the training."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.catalogue import BEST, FINAL, LATEST, link_target, list_checkpoints, newest_sound
from shared.errors import ExitCode, RunError, UserError
from shared.files import replace_file, write_json
from shared.lock import RunLock
from shared.records import RunState
from shared.run_directory import RunDirectory, create_run, slug
from shared.text import many_lines, one_line
from trainer.cli.starting import Start
from trainer.config.resolve import assignment, flatten, to_plain, to_yaml
from trainer.config.schema import Config

if TYPE_CHECKING:
    from trainer.loop.session import Plan
    from trainer.loop.signals import StopSignals

OWNER = ".owner"  # in a checkpoint folder outside the run directory: whose it is


@dataclass(frozen=True)
class Checked:
    """A start that nothing known stands against: where it begins, and what was found on the way."""

    planned: Plan
    checkpoint: Path | None
    warnings: tuple[str, ...] = ()


def launch(start: Start, runs_dir: Path, *, detach: bool) -> int:
    """Train, in this process or in the background; returns the exit code."""
    if detach:
        return _launch_detached(start, runs_dir)
    return train_here(start, runs_dir)


def show_plan(start: Start) -> int:
    """Print what would be trained, and on what, without making a run."""
    checked = check(start)
    for line in (*checked.planned.describe(), *checked.warnings):
        print(many_lines(line))
    if checked.checkpoint:
        print(f"from {one_line(checked.checkpoint)}")
    print(f"Configuration:\n{many_lines(to_yaml(start.config))}")
    return ExitCode.OK


def check(start: Start) -> Checked:
    """Find everything that would make the training fail, before any run is touched.

    Raises UserError or RunError telling it.
    """
    from trainer.loop.session import check_resumable, plan

    checkpoint = start.checkpoint
    warnings: tuple[str, ...] = ()
    if checkpoint is None and start.run is not None:
        checkpoint, warnings = _newest(start.run)
    planned = plan(start.config, checkpoint)
    if checkpoint is not None:
        # One that has ended well must not become a failed one.
        check_resumable(planned, checkpoint, verified=start.checkpoint is None)
    if start.run is None:
        slug(start.config.name)
        _check_checkpoint_folder(start.config)
    return Checked(planned, checkpoint, warnings)


def _newest(run: RunDirectory) -> tuple[Path | None, tuple[str, ...]]:
    """The newest sound checkpoint of a run, None if none was ever saved, and what to warn of."""
    newest, problems = newest_sound(run.checkpoints)
    if newest is not None:
        return newest.path, tuple(f"{p}; using an older checkpoint" for p in problems)
    if problems:
        raise RunError(f"No checkpoint of {run.run_id} is sound: {problems[0]}.")
    state = run.read_state() or RunState()
    if state.latest_checkpoint is not None:
        raise RunError(
            f"{run.run_id} saved {one_line(state.latest_checkpoint)}, but "
            f"{run.checkpoints.resolve()} holds no checkpoint: is its disk there? "
            "Nothing was changed; to begin anew, start a new run."
        )
    if state.current_step:
        return None, (f"no checkpoint was saved in {state.current_step} steps: beginning anew",)
    return None, ()


def _launch_detached(start: Start, runs_dir: Path) -> int:
    from shared.launch import resume_detached, wait_until_running

    check(start)  # what is wrong is told here, not in a log
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
    shown = one_line(run.path)
    print(f"{one_line(run.run_id)} is {status} (process {process.pid})")
    print(f"watch: train-monitor --runs-dir {one_line(run.path.parent)}")
    print(f"stop:  trainer stop {shown}")
    return ExitCode.OK


def _as_options(start: Start) -> list[str]:
    """The overrides of a continued run as `--set` options of its background process."""
    options = ["--from", str(start.checkpoint)] if start.checkpoint else []
    for key, value in flatten(to_plain(start.config)).items():
        options += ["--set", assignment(key, value)]
    return options


def queue_run(config: Config, runs_dir: Path) -> RunDirectory:
    """Create a run that waits to be started: its folder, configuration and state.

    Raises UserError for a name or a checkpoint folder that will not do; nothing is left then.
    """
    slug(config.name)
    _check_checkpoint_folder(config)
    elsewhere = _make_checkpoint_folder(config)
    run = create_run(runs_dir, config.name)
    try:
        if elsewhere is not None:
            _claim(elsewhere, run)
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
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
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


def _check_checkpoint_folder(config: Config) -> None:
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


def _claim(folder: Path, run: RunDirectory) -> None:
    """Make `folder` this run's, in one step, so that two runs never share one."""
    note = folder / OWNER
    try:
        fd = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError as error:
        owner = Path(note.read_text(errors="replace").strip())
        if owner.is_dir():
            raise UserError(
                f"--checkpoint-dir {folder} belongs to the run {one_line(owner.name)}; resume "
                "that one, or choose another folder."
            ) from error
        note.unlink()  # its run was deleted, and no checkpoint is left
        _claim(folder, run)
        return
    with os.fdopen(fd, "w") as file:
        file.write(f"{run.path.resolve()}\n")


def set_aside_newer(run: RunDirectory, begun_from: Path, step: int, attempt: int) -> list[str]:
    """Rename checkpoints of later steps, so that the next resume does not take them for the newest.

    They are kept, under a name the catalogue does not list. Links to them go.
    """
    moved: list[str] = []
    for info in list_checkpoints(run.checkpoints):
        if info.path.resolve() == begun_from.resolve():
            continue
        if info.step > step or (info.name == FINAL and info.step >= step):
            info.path.rename(info.path.with_name(f"superseded_{attempt}_{info.name}"))
            moved.append(info.name)
    for link in (LATEST, BEST):
        if link_target(run.checkpoints, link) in moved:
            (run.checkpoints / link).unlink()
    return moved


def train_here(start: Start, runs_dir: Path) -> int:
    """Train in this process."""
    from trainer.loop.signals import StopSignals

    with contextlib.ExitStack() as cleanup:
        lock = None
        if start.run is not None:
            # Held while the checkpoint is chosen: another trainer may be saving a newer one.
            lock = RunLock(start.run.lock_path)
            lock.acquire()
            cleanup.callback(lock.release)
        checked = check(start)
        run = start.run or queue_run(start.config, runs_dir)
        signals = cleanup.enter_context(StopSignals())
        return _train(start, checked, run, lock, signals)


def _train(
    start: Start, checked: Checked, run: RunDirectory, lock: RunLock | None, signals: StopSignals
) -> int:
    from shared.run_writer import RunWriter
    from trainer.loop.session import build, restore
    from trainer.loop.training import Training
    from trainer.model.parameters import count_parameters, dimensions

    config, planned = start.config, checked.planned
    n = dimensions(config.model)
    writer = RunWriter(
        run=run,
        lock=lock,
        run_name=one_line(config.name),
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
        for warning in checked.warnings:
            writer.event("warning", message=warning)
            writer.say(f"[WARN] {warning}")
        session = build(planned)
        if checked.checkpoint is not None:
            restore(session, checked.checkpoint)
            if start.checkpoint and start.run:
                step, attempt = session.progress.step, writer.state.attempt
                for name in set_aside_newer(run, start.checkpoint, step, attempt):
                    writer.event("checkpoint_superseded", name=name)
        replace_file(run.config_path, to_yaml(config).encode())
        return Training(session, writer, signals).run()
    except UserError as error:
        writer.say(f"[ERROR] {error}")
        writer.finish("failed", int(error.exit_code), str(error))
        raise
    except BaseException as error:
        writer.__exit__(type(error), error, error.__traceback__)
        raise


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
