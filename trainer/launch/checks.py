"""Everything that would make the training fail, found before any run is touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.checkpoints.catalogue import list_checkpoints, newest_sound
from shared.errors import RunError
from shared.json_text import Json
from shared.run.directory import RunDirectory, slug
from shared.run.records import RunState
from shared.text import one_line, plural
from trainer.checkpoint.hub_models import recorded_model, shown_model
from trainer.checkpoint.progress import read_progress
from trainer.config.resolve import to_yaml
from trainer.config.schema import Config
from trainer.distributed.group import ALONE, Group, expected
from trainer.distributed.present import check_device
from trainer.distributed.world import ONE_PROCESS, World, check_ranks
from trainer.growth.stages import stage_models
from trainer.launch.changes import changes
from trainer.launch.checkpoint_folder import check_checkpoint_folder
from trainer.launch.publish import check_upload
from trainer.launch.request import LaunchRequest
from trainer.loop.resumable import check_recorded_model, check_steps_left, check_time_left
from trainer.optim.kinds import table

if TYPE_CHECKING:
    from trainer.loop.plan import Plan


@dataclass(frozen=True)
class Start:
    """The folder that training starts from: from its step, or at step 0 with its weights only.

    `verified`: its checksums have been compared already. `new_run`: it is not the run's own,
    so time and patience count from here.
    """

    folder: Path
    weights_only: bool = False
    verified: bool = False
    new_run: bool = False

    @property
    def state(self) -> Path | None:
        """The checkpoint whose step, optimizer and position are continued."""
        return None if self.weights_only else self.folder

    def __str__(self) -> str:
        what = "from the weights of" if self.weights_only else "from"
        return f"{what} {shown_model(self.folder)}"


@dataclass(frozen=True)
class Checked:
    """A request that can be trained: the plan, what it starts from, and warnings."""

    request: LaunchRequest
    plan: Plan
    start: Start | None
    warnings: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """What would be trained and on what, as lines for a person."""
        start = [str(self.start)] if self.start else []
        # As given: what depends on the free memory is decided at each start.
        asked = self.request.config
        whole = {"train": asked.train, "model": asked.model, "growth": asked.growth}
        config = self.plan.config.model_copy(update=whole)
        configuration = f"Configuration:\n{to_yaml(config)}"
        return [*self.plan.describe(), *self.warnings, *start, configuration]


def check_ahead(request: LaunchRequest, machines: int = 1) -> Checked:
    """As `check`, by a process that leaves the training to others: to the ranks that the
    configuration asks for, on each of several `machines`."""
    return check(request, expected(ranks_of(request.config, machines)))


def check(request: LaunchRequest, group: Group = ALONE) -> Checked:
    """Check data, device, memory, upload login, checkpoint and folders of a request.

    Nothing is written. Raises UserError or RunError with the first problem found. Every rank of
    `group` checks what is its own; rank 0 chooses the checkpoint.
    """
    check_names(request, group.world)
    if group.writes:
        check_upload(request.config)
    told = group.decided(lambda: _told(*_starting_point(request)))
    start, warnings = _start_told(told["start"]), tuple(told["warnings"])
    checkpoint = start.state if start else None
    state = request.run.read_state() if request.run is not None else None
    # Only a completed run has nothing left to do: one killed at its last step may still end.
    ended = state is None or state.status == "completed"
    if start is not None and checkpoint is not None:
        _check_recorded(request.config, checkpoint, ended=ended, new_run=start.new_run)

    from trainer.loop.plan import plan
    from trainer.loop.starting import check_beginning, check_resumable

    def planned_and_checked() -> Plan:
        planned = plan(request.config, checkpoint, group)
        if start is not None and start.weights_only:
            check_beginning(planned, start.folder)
        if start is not None and checkpoint is not None:
            known = start.verified or not group.writes  # once is enough
            check_resumable(planned, checkpoint, verified=known, ended=ended, new_run=start.new_run)
        return planned

    planned = group.all_well(planned_and_checked)
    # `checkpoint.begin_with: state` is for other data; --decay-from and --resume are not.
    continued = request.checkpoint is not None or request.run is not None
    if start is not None and checkpoint is not None and continued:
        warnings += changes(planned, checkpoint, state.max_steps if state else None)
    return Checked(request, planned, start, warnings)


def check_plain(request: LaunchRequest, world: World) -> None:
    """What `check` finds without torch, and without reading a whole checkpoint. Raises UserError.

    For the process that starts the ranks: they check everything, and take seconds to begin.
    """
    check_names(request, world)
    check_upload(request.config)
    folder, run = request.checkpoint, request.run
    if folder is None and run is not None:
        whole = [c for c in list_checkpoints(run.checkpoints) if c.whole]
        folder = whole[-1].path if whole else None
    if folder is None:
        return
    state = run.read_state() if run is not None else None
    ended = state is None or state.status == "completed"
    _check_recorded(request.config, folder, ended=ended, new_run=run is None)


def _told(start: Start | None, warnings: tuple[str, ...]) -> Json:
    """What to start from, as one rank tells the others."""
    told = {**vars(start), "folder": str(start.folder)} if start else None
    return {"start": told, "warnings": warnings}


def _start_told(told: Json | None) -> Start | None:
    return Start(**{**told, "folder": Path(told["folder"])}) if told else None


def ranks_of(config: Config, machines: int = 1) -> World:
    """The ranks that a configuration asks for, on each of several machines."""
    each = config.distributed.nproc_per_node
    return World(size=each * machines, local_size=each)


def check_names(request: LaunchRequest, world: World = ONE_PROCESS) -> None:
    """Check the names of the run, its folder, files, device and optimizer, before torch loads."""
    config = request.config
    check_device(config.train.device)
    check_ranks(world, config.train.device, config.sequences_per_step)
    table(config.optim)
    if request.run is None:
        slug(config.name)
        check_checkpoint_folder(config)
    if config.data.dataset == "tokens":
        from trainer.data.tokens import check_token_files

        check_token_files(config.data.path, config.data.val_path)
        for source in config.data.sources or ():
            check_token_files(source.path, None)


def _check_recorded(config: Config, checkpoint: Path, *, ended: bool, new_run: bool) -> None:
    """The part of `check_resumable` that needs no torch."""
    check_recorded_model(stage_models(config), checkpoint)
    progress, _ = read_progress(checkpoint)
    if ended and config.train.max_steps is not None:
        check_steps_left(config.train.max_steps, progress)
    if ended and not new_run:
        check_time_left(config, progress)


def _starting_point(request: LaunchRequest) -> tuple[Start | None, tuple[str, ...]]:
    """What to start from, and warnings."""
    warnings: tuple[str, ...] = ()
    if request.checkpoint is not None:
        return Start(request.checkpoint, new_run=request.run is None), ()
    if request.run is not None:
        newest, warnings = newest_checkpoint(request.run)
        if newest is not None:
            return Start(newest, verified=True), warnings
    section = request.config.checkpoint
    if section.begin_from is not None:
        folder = recorded_model(section.begin_from)
        return Start(folder, weights_only=section.begin_with == "weights", new_run=True), ()
    return None, warnings


def newest_checkpoint(run: RunDirectory) -> tuple[Path | None, tuple[str, ...]]:
    """The newest sound checkpoint of a run, and warnings; None when the run never saved one.

    Raises RunError when it saved some and none of them can be used.
    """
    newest, problems = newest_sound(run.checkpoints)
    if newest is not None:
        return newest.path, tuple(f"{p}; using an older checkpoint" for p in problems)
    if problems:
        raise RunError(f"No checkpoint of {run.run_id} is sound: {problems[0]}.")
    state = run.read_state() or RunState()
    if state.latest_checkpoint is not None:
        raise RunError(
            f"{run.run_id} saved {one_line(state.latest_checkpoint)}, but "
            f"{run.checkpoints.resolve()} holds no checkpoint: is its disk mounted? "
            "Nothing was changed; to train from the beginning, start a new run."
        )
    if state.current_step:
        return None, (
            (
                f"no checkpoint was saved in {plural(state.current_step, 'step')}: "
                "starting from the beginning"
            ),
        )
    return None, ()
