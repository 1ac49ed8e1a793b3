"""Training in this process, from the checks to what follows the last step."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from shared.checkpoints.catalogue import set_aside_damaged
from shared.errors import ExitCode
from shared.files import replace_file
from shared.ownership.lock import LockHeldError, RunLock
from shared.run.directory import RunDirectory
from shared.text import one_line
from trainer.config.resolve import flatten, parse_settings, read_text, to_plain, to_yaml
from trainer.distributed.group import Group, RankError, joined
from trainer.launch.checks import Checked, check, check_names
from trainer.launch.claim import check_writable, claim
from trainer.launch.create import create
from trainer.launch.git_commit import git_commit
from trainer.launch.publish import Send, publish
from trainer.launch.rank_failures import failure_recorded
from trainer.launch.rank_process import ALONE, RankProcess
from trainer.launch.request import LaunchRequest, resume_request
from trainer.launch.requeue import requeue
from trainer.launch.superseded import set_aside_newer

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.json_text import Json
    from shared.run_writer import RunWriter
    from trainer.loop.hooks import Hooks
    from trainer.loop.session import Session
    from trainer.loop.silent_writer import SilentWriter

_RUN = "run"  # of the ranks, for those that torchrun starts after them

#: A micro-batch that was found to fit is kept across a resume while these settings stay.
_MEMORY_KEYS = tuple(
    f"train.{key}"
    for key in (
        "micro_batch",
        "batch_size",
        "accumulation_steps",
        "seq_len",
        "device",
        "dtype",
        "grad_checkpoint_every",
    )
)


def train_here(
    request: LaunchRequest,
    runs_dir: Path,
    *,
    supervised: bool = False,
    send: Send,
    hooks: Hooks | None = None,
    rank: RankProcess = ALONE,
    completed: Callable[[RunDirectory], None] = lambda _: None,
) -> int:
    """Train to the last step or to a stop; returns the exit code.

    `supervised`: a daemon may start this process again. `send` uploads a completed run;
    `hooks` watch the training. `rank`: this process is one of several that call this, of which one
    writes the run directory and tells what goes wrong. `completed` is called with a run that has
    reached its end, before it is uploaded.
    """
    try:
        return _train(
            request,
            runs_dir,
            supervised=supervised,
            send=send,
            hooks=hooks,
            rank=rank,
            completed=completed,
        )
    except RankError as error:
        return int(error.exit_code)


def _train(
    request: LaunchRequest,
    runs_dir: Path,
    *,
    supervised: bool,
    send: Send,
    hooks: Hooks | None,
    rank: RankProcess,
    completed: Callable[[RunDirectory], None],
) -> int:
    world = rank.world
    from trainer.alerts.alerter import alerts_of_run
    from trainer.loop.signals import StopSignals

    with contextlib.ExitStack() as cleanup:
        # Before torch is loaded: a signal during the start ends the run cleanly.
        signals = cleanup.enter_context(StopSignals(together=0.0 if world.alone else 1.0))
        if not world.alone:
            check_names(request, world)  # before torch is loaded
        group = cleanup.enter_context(joined(world, request.config.train.device, rank.is_lost))
        request = _begun_before(request, runs_dir, group)
        locks = group.decided_here(
            lambda: _place_to_write(request, runs_dir, supervised=supervised)
        )
        for lock in locks:
            cleanup.callback(lock.release)
        checked = check(request, group)
        path = group.decided(lambda: str((request.run or _created(request, runs_dir)).path))
        run = RunDirectory(Path(path))
        group.remember(_RUN, path)

        def begin() -> list[RunWriter]:
            alerter = alerts_of_run(run, strict=not supervised)
            if alerter is not None:
                cleanup.callback(alerter.close)  # after the run has reported its end
            listener = None if alerter is None else partial(alerter.notice, run)
            lock = locks[0] if locks else None
            launcher = rank.launcher.pid if rank.launcher else None
            return [
                open_writer(checked, run, lock, listener, supervised=supervised, launcher=launcher)
            ]

        opened = group.decided_here(begin)
        state = group.decided(lambda: [writer.state.to_json() for writer in opened])[0]
        # The same methods, and nothing written.
        writer = opened[0] if opened else cast("RunWriter", _silent(run, state))
        with failure_recorded(writer, group):
            session = open_session(checked, run, writer)
            kept = request.config if request.run else request.new_config()
            kept = kept.model_copy(update={"optim": checked.plan.config.optim})
            group.decided(lambda: replace_file(run.config_path, to_yaml(kept).encode()))

            from trainer.loop.hooks import Hooks
            from trainer.loop.training import Training

            group.at(session.progress.step, getattr(writer, "last_lines", ()))
            code: int = Training(session, writer, signals, hooks or Hooks()).run()
            group.agree(code)  # rank 0 may hold the store: it must not end before all have read it
        if not group.writes:
            return code
        if code == ExitCode.OK:
            completed(run)
            code = publish(run, request.config, send)
        if code == ExitCode.REQUEUE:
            requeue(run, signals.received, os.environ)
        return code


def _begun_before(request: LaunchRequest, runs_dir: Path, group: Group) -> LaunchRequest:
    """The request, or one to continue the run that it began before torchrun started it again."""
    begun = group.remembered(_RUN)
    return resume_request(begun, runs_dir, {}) if begun else request


def _place_to_write(request: LaunchRequest, runs_dir: Path, *, supervised: bool) -> list[RunLock]:
    """The lock of the run that is continued.

    Held while the checkpoint is chosen: another trainer may be saving a newer one.
    """
    if request.run is None:
        check_writable(runs_dir)
        return []
    try:
        return [claim(request.run)]
    except LockHeldError as error:
        if supervised:  # the lock may be held for a moment only, so the daemon should try again
            error.exit_code = ExitCode.REQUEUE
        raise


def _created(request: LaunchRequest, runs_dir: Path) -> RunDirectory:
    return create(request.new_config(), runs_dir)


def _silent(run: RunDirectory, state: Json) -> SilentWriter:
    from trainer.loop.silent_writer import SilentWriter

    return SilentWriter(run, state)


def open_writer(
    checked: Checked,
    run: RunDirectory,
    lock: RunLock | None,
    listener: Callable[[Json], None] | None,
    *,
    supervised: bool,
    launcher: int | None = None,
) -> RunWriter:
    """Begin an attempt in the run's record. `launcher` is the process that stands for its ranks."""
    from shared.run_writer import RunWriter
    from trainer.checkpoint.progress import read_progress
    from trainer.model.facts import model_facts

    config, planned = checked.request.config, checked.plan
    reset: Json = {"micro_batch": None} if _memory_settings_changed(checked.request) else {}
    if not supervised:
        reset["paused"] = False  # a person started it
    # An attempt that died may have recorded more steps than its checkpoint holds.
    state = checked.start.state if checked.start else None
    first = read_progress(state)[0].step if state else 0
    return RunWriter(
        run=run,
        lock=lock,
        listener=listener,
        run_name=one_line(config.name),
        current_step=first,
        max_steps=planned.max_steps,
        patience=config.train.patience,
        device=planned.compute.describe() + planned.ranks,
        supervised=supervised,
        launcher_pid=launcher,
        ranks=planned.group.world.size,
        git_commit=git_commit(),
        **reset,
        model=model_facts(planned.config.model) | {"attention": planned.attention.kernel},
    )


def _memory_settings_changed(request: LaunchRequest) -> bool:
    """Whether a setting that decides on memory differs from the run's last attempt."""
    if request.run is None:
        return False
    path = request.run.config_path
    before = parse_settings(read_text(path), one_line(path))
    now = flatten(to_plain(request.config))
    return any(before.get(key, now[key]) != now[key] for key in _MEMORY_KEYS)


def open_session(checked: Checked, run: RunDirectory, writer: RunWriter) -> Session:
    """Build model and optimizer, and restore what the run starts from, if there is something."""
    from trainer.loop.session import begin, build, restore

    request, start, group = checked.request, checked.start, checked.plan.group
    for warning in checked.warnings:
        writer.event("warning", message=warning)
        writer.say(f"[WARN] {warning}")
    newest = start.state if start is not None and request.checkpoint is None else None
    if newest is not None and group.writes:
        for bad in set_aside_damaged(run.checkpoints, newest):
            writer.event("checkpoint_corrupt", **vars(bad))
            writer.say(f"[WARN] {bad.name} is damaged and was renamed to {bad.moved_to}")
    if request.config.data.dataset == "pairs":
        from trainer.loop.reference import compute_reference

        compute = partial(compute_reference, checked.plan, writer.say, writer.progress)
        group.decided(compute)
        if not group.writes:  # what rank 0 has computed is on the disk now
            compute()
    session = build(checked.plan)
    if start is None:
        return session
    if start.state is None:
        begin(session, start.folder)
        return session
    restore(session, start.state, new_run=start.new_run)
    if request.checkpoint and request.run and group.writes:
        step, attempt = session.progress.step, writer.state.attempt
        for name in set_aside_newer(run, request.checkpoint, step, attempt):
            writer.event("checkpoint_superseded", name=name)
    return session
