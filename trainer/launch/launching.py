"""Starting what `starting` made out: checks first, then a run directory, a lock, the training."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from shared.checkpoints.catalogue import (
    BEST,
    FINAL,
    LATEST,
    link_target,
    list_checkpoints,
    newest_sound,
    set_aside_damaged,
)
from shared.errors import ExitCode, RunError, UserError
from shared.files import replace_file, write_json
from shared.json_text import Json
from shared.ownership.lock import LockHeldError, RunLock
from shared.run.directory import RunDirectory, create_run, slug
from shared.run.records import ExitRecord, RunState
from shared.text import many_lines, one_line
from trainer.checkpoint.finding import find_checkpoint
from trainer.config.resolve import (
    assignment,
    flatten,
    parse_settings,
    read_text,
    to_plain,
    to_yaml,
)
from trainer.config.schema import Config
from trainer.launch.places import check_writable, take_run
from trainer.launch.publishing import check_upload, publish
from trainer.launch.starting import Start

if TYPE_CHECKING:
    from trainer.loop.hooks import Hooks
    from trainer.loop.session import Plan
    from trainer.loop.signals import StopSignals

_MEMORY_KEYS = tuple(
    f"train.{key}"
    for key in ("micro_batch", "batch_size", "accumulation_steps", "seq_len", "device", "dtype")
)
OWNER = ".owner"  # in a checkpoint folder outside the run directory: whose it is


@dataclass(frozen=True)
class Checked:
    """A start that nothing known stands against: where it begins, and what was found on the way."""

    planned: Plan
    checkpoint: Path | None
    warnings: tuple[str, ...] = ()


def launch(
    start: Start,
    runs_dir: Path,
    *,
    detach: bool = False,
    queue: bool = False,
    supervised: bool = False,
    hooks: Hooks | None = None,
) -> int:
    """Train in this process, in the background, or when a daemon has room; returns the exit code.

    `supervised`: this process is one that a daemon may start again. `hooks` watch a training in
    this process.
    """
    from trainer.alerts.settings import load_settings

    if detach and queue:
        raise UserError(
            "--detach and --queue are both given; start it now, or leave it to a daemon."
        )
    if not supervised:
        load_settings()  # what is wrong there is told before a run is made
    if queue:
        return _launch_queued(start, runs_dir)
    if detach:
        return _launch_detached(start, runs_dir)
    return train_here(start, runs_dir, supervised=supervised, hooks=hooks)


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

    check_upload(start.config)
    checkpoint, begin_from = start.checkpoint, start.config.checkpoint.begin_from
    warnings: tuple[str, ...] = ()
    if checkpoint is None and start.run is not None:
        checkpoint, warnings = _newest(start.run)
    sound = start.checkpoint is None and checkpoint is not None
    if checkpoint is None and begin_from is not None:
        checkpoint, warnings = find_checkpoint(begin_from), ()
    planned = plan(start.config, checkpoint)
    if checkpoint is not None:
        # One that has ended well must not become a failed one.
        state = start.run.read_state() if start.run is not None else None
        ended = state is None or state.status == "completed"
        check_resumable(planned, checkpoint, verified=sound, ended=ended)
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
    from shared.control.launch import resume_detached, wait_until_running

    run = start.run
    options: list[str] = []
    if run is None:
        check_writable(runs_dir)
        check(start)  # what is wrong is told here, not in a log
        run = queue_run(_beginning(start), runs_dir)
    else:
        lock = take_run(run)
        try:
            check(start)
        finally:
            lock.release()
        options = _as_options(start)
    process = resume_detached(run, options)
    try:
        status = wait_until_running(run, process)
    except RunError as error:
        _record_failed_start(run, str(error))
        raise
    shown = one_line(run.path)
    print(f"{one_line(run.run_id)} is {status} (process {process.pid})")
    print(f"watch: train-monitor --runs-dir {one_line(run.path.parent)}")
    print(f"stop:  trainer stop {shown}")
    return ExitCode.OK


def _record_failed_start(run: RunDirectory, reason: str) -> None:
    """A run whose trainer died before it could say anything must not look queued for ever."""
    with contextlib.suppress(OSError, UserError), contextlib.ExitStack() as held:
        lock = RunLock(run.lock_path)
        lock.acquire()
        held.callback(lock.release)
        state = run.read_state()
        if state is not None and state.status == "queued":
            ended = ExitRecord(int(ExitCode.FAILURE), reason)
            failed = replace(state, status="failed", ended_at=time.time(), exit=ended)
            write_json(run.state_path, failed.to_json())


def _launch_queued(start: Start, runs_dir: Path) -> int:
    from trainer.launch.queueing import queue_again, tell_queued

    if start.run is None:
        check_writable(runs_dir)
        check(start)
        return tell_queued(queue_run(_beginning(start), runs_dir, supervised=True))
    lock = take_run(start.run)
    try:
        if start.checkpoint is not None and _newest(start.run)[0] is not None:
            raise UserError(
                f"--queue goes on from the newest checkpoint of {start.run.run_id}; to begin from "
                f"{one_line(start.checkpoint.name)}, start it now with --detach."
            )
        checked = check(start)
        replace_file(start.run.config_path, to_yaml(_beginning(start)).encode())
        queue_again(start.run, lock, {"max_steps": checked.planned.max_steps})
    finally:
        lock.release()
    return tell_queued(start.run)


def _beginning(start: Start) -> Config:
    """The configuration that also says which checkpoint the run begins from."""
    if start.checkpoint is None:
        return start.config
    section = start.config.checkpoint.model_copy(update={"begin_from": str(start.checkpoint)})
    return start.config.model_copy(update={"checkpoint": section})


def _as_options(start: Start) -> list[str]:
    """The overrides of a continued run as `--set` options of its background process."""
    options = ["--from", str(start.checkpoint)] if start.checkpoint else []
    for key, value in flatten(to_plain(start.config)).items():
        options += ["--set", assignment(key, value)]
    return options


def queue_run(config: Config, runs_dir: Path, *, supervised: bool = False) -> RunDirectory:
    """Create a run that waits to be started: its folder, configuration and state.

    `supervised`: by a daemon; else by whoever made it.

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
            supervised=supervised,
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


def train_here(
    start: Start, runs_dir: Path, *, supervised: bool = False, hooks: Hooks | None = None
) -> int:
    """Train in this process."""
    from trainer.alerts.alerter import alerts_of_run
    from trainer.launch.requeue import requeue
    from trainer.loop.hooks import Hooks
    from trainer.loop.signals import StopSignals

    with contextlib.ExitStack() as cleanup:
        lock = None
        # From here on: who asks to end while torch is loaded is not killed, but answered.
        signals = cleanup.enter_context(StopSignals())
        if start.run is None:
            check_writable(runs_dir)
        else:
            # Before torch is loaded, and held while the checkpoint is chosen: another trainer may
            # be saving a newer one.
            lock = _take(start.run, supervised=supervised)
            cleanup.callback(lock.release)
        checked = check(start)
        run = start.run or queue_run(_beginning(start), runs_dir)
        alerter = alerts_of_run(run, strict=not supervised)
        if alerter is not None:
            cleanup.callback(alerter.close)  # after the run has told of its end
        listener = None if alerter is None else partial(alerter.notice, run)
        code = _train(
            start,
            checked,
            run,
            lock,
            signals,
            hooks=hooks or Hooks(),
            listener=listener,
            supervised=supervised,
        )
        if code == ExitCode.OK:
            code = publish(run, start.config)
        if code == ExitCode.REQUEUE:
            requeue(run, signals.received, os.environ)
        return code


def _take(run: RunDirectory, *, supervised: bool) -> RunLock:
    try:
        return take_run(run)
    except LockHeldError as error:
        if supervised:  # it may be held for a moment only: the daemon shall try again
            error.exit_code = ExitCode.REQUEUE
        raise


def _train(
    start: Start,
    checked: Checked,
    run: RunDirectory,
    lock: RunLock | None,
    signals: StopSignals,
    *,
    hooks: Hooks,
    listener: Callable[[Json], None] | None,
    supervised: bool,
) -> int:
    from shared.run_writer import RunWriter
    from trainer.checkpoint.loading import read_progress
    from trainer.loop.session import build, restore
    from trainer.loop.training import Training
    from trainer.model.dimensions import dimensions
    from trainer.model.shapes import count_parameters

    config, planned = start.config, checked.planned
    n = dimensions(config.model)
    forgotten: Json = {"micro_batch": None} if _asks_anew(start) else {}
    if not supervised:
        forgotten["paused"] = False  # a person has started it
    begins = read_progress(checked.checkpoint)[0].step if checked.checkpoint else 0
    writer = RunWriter(
        run=run,
        lock=lock,
        listener=listener,
        run_name=one_line(config.name),
        current_step=begins,  # of an attempt that died, not all steps are kept
        max_steps=planned.max_steps,
        device=planned.compute.describe(),
        supervised=supervised,
        git_commit=git_commit(),
        **forgotten,
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
        if checked.checkpoint is not None and start.checkpoint is None:
            for bad in set_aside_damaged(run.checkpoints, checked.checkpoint):
                writer.event("checkpoint_corrupt", **vars(bad))
                writer.say(f"[WARN] {bad.name} is damaged and is now {bad.moved_to}")
        session = build(planned)
        if checked.checkpoint is not None:
            restore(session, checked.checkpoint)
            if start.checkpoint and start.run:
                step, attempt = session.progress.step, writer.state.attempt
                for name in set_aside_newer(run, start.checkpoint, step, attempt):
                    writer.event("checkpoint_superseded", name=name)
        kept = config if start.run else _beginning(start)
        replace_file(run.config_path, to_yaml(kept).encode())
        return Training(session, writer, signals, hooks).run()
    except UserError as error:
        writer.say(f"[ERROR] {error}")
        writer.finish("failed", int(error.exit_code), str(error))
        raise
    except BaseException as error:
        writer.__exit__(type(error), error, error.__traceback__)
        raise


def _asks_anew(start: Start) -> bool:
    """Whether the settings that decide on memory differ from those the run had before.

    Then the micro-batch that was found to fit says nothing any more.
    """
    if start.run is None:
        return False
    before = parse_settings(read_text(start.run.config_path), one_line(start.run.config_path))
    now = flatten(to_plain(start.config))
    return any(before.get(key, now[key]) != now[key] for key in _MEMORY_KEYS)


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
