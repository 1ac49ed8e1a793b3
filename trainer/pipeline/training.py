"""Training a stage's run to its end: begun, adopted, resumed or begun anew, restarted if it dies.

What happens after a crash is decided as a daemon decides it, and recorded in the run as a daemon
records it: a kill for want of memory halves the micro-batch, and attempts without progress end.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.checkpoints.catalogue import FINAL, link_target, list_checkpoints, newest_sound
from shared.checkpoints.owner import owner_of
from shared.control.idle_run import IdleRun
from shared.errors import ExitCode, UserError
from shared.files import replace_file, replace_link
from shared.ownership.health import observe
from shared.ownership.heartbeat import read_beat
from shared.run.directory import RunDirectory
from shared.run.records import RunState
from shared.text import one_line
from trainer.config.resolve import assignment, flatten, parse_settings, read_text, to_plain, to_yaml
from trainer.config.schema import Config
from trainer.daemon.care import RUNNING, Care
from trainer.daemon.endings import record_end, saved_step
from trainer.daemon.memory import oom_kills
from trainer.daemon.policy import History
from trainer.launch.create import create
from trainer.launch.request import absolute
from trainer.pipeline.children import Child, signal_child
from trainer.pipeline.following import at_its_end
from trainer.pipeline.means import Means
from trainer.pipeline.place import Place
from trainer.pipeline.settings import Change, changes_of
from trainer.pipeline.stages.interface import StageError, Trained
from trainer.pipeline.steering import Stopped

ASKED = "asked.yaml"  # in a run: the configuration before the trainer filled in what was left open


class Adopted:
    """A trainer that an earlier pipeline has started; it is no child of this process."""

    def __init__(self, run: RunDirectory) -> None:
        beat = read_beat(run.heartbeat_path)
        state = run.read_state() or RunState()
        self.pid = state.launcher_pid or (beat.process.pid if beat is not None else state.pid)
        self._run = run

    def poll(self) -> int | None:
        """The exit code that it recorded, or 1; None while it owns the run."""
        state = self._run.read_state() or RunState()
        if observe(self._run, state).alive:
            return None
        return state.exit.code if state.exit is not None else int(ExitCode.FAILURE)


@dataclass(frozen=True)
class Trainings:
    """Trains the runs of a pipeline's stages."""

    place: Place
    means: Means
    clock: Callable[[], float] = time.monotonic

    def train(self, stage: str, wanted: Config) -> Trained:
        """Train a run of this configuration in the stage's folder to its last step.

        A run that is there continues if the change of its settings allows it; otherwise it is set
        aside with its checkpoints. Raises Stopped, StageError.
        """
        folder = self.place.folder(stage)
        self._set_aside_foreign(folder)
        section = wanted.checkpoint.model_copy(update={"dir": str(folder)})
        name = self.place.run_name(stage)
        config = absolute(wanted.model_copy(update={"name": name, "checkpoint": section}))
        run, options = owner_of(folder), list[str]()
        if run is not None:
            change = self._change(run, config)
            if change.changed or change.repeats:
                self._end_living(run)
            if change.repeats:
                self.means.following.say(f"[INFO] {name} begins anew: {change.told}")
                self._set_aside(folder, run)
                run = None
            elif change.changed:
                self.means.following.say(f"[INFO] {run.run_id} continues with {change.told}")
                options = _as_options(change.changed)
        if run is None:
            run = create(
                config,
                self.place.runs_dir,
                group=self.place.name,
                stage=stage,
            )
            replace_file(run.path / ASKED, to_yaml(config).encode())
            self.means.following.say(f"[INFO] {run.run_id} is the run of stage {stage}")
        self._to_the_end(run, config, options)
        return trained(run, folder)

    def _change(self, run: RunDirectory, config: Config) -> Change:
        """What differs between the configuration of a run and the one that is wanted."""
        asked = run.path / ASKED
        path = asked if asked.is_file() else run.config_path
        try:
            before = parse_settings(read_text(path), str(path))
        except UserError:  # then it cannot be continued
            before = {}
        state = run.read_state() or RunState()
        return changes_of(
            before,
            flatten(to_plain(config)),
            step=state.current_step,
            ended=state.status == "completed",
        )

    def _end_living(self, run: RunDirectory) -> None:
        """Let a trainer that still works with other settings save and end."""
        if not observe(run, run.read_state() or RunState()).alive:
            return
        child = Adopted(run)
        self.means.following.say(
            f"[INFO] process {child.pid} saves, to continue as it is now asked"
        )
        signal_child(child, signal.SIGTERM)
        self.means.following.end_of(child, at_its_end(run.log_path), run=run)

    def _set_aside_foreign(self, folder: Path) -> None:
        """Set checkpoints aside that no run owns: their run was deleted, or they were copied."""
        if owner_of(folder) is None and list_checkpoints(folder):
            self._set_aside(folder, None)

    def _set_aside(self, folder: Path, run: RunDirectory | None) -> None:
        """Rename a folder of checkpoints, which stays that of its run."""
        number = 1
        while (target := folder.with_name(f"{folder.name}.old-{number}")).exists():
            number += 1
        folder.rename(target)
        if run is not None and run.checkpoints.is_symlink():
            replace_link(run.checkpoints, str(target))
        self.means.following.say(f"[INFO] the earlier checkpoints are in {target} now")

    def _to_the_end(self, run: RunDirectory, config: Config, options: list[str]) -> None:
        """Start a trainer until the run is completed. `options` change its settings."""
        state = run.read_state() or RunState()
        history = History((), saved_step(state))
        while True:
            self.means.steering.wait_while_paused(self.means.following.pause)
            state = run.read_state() or RunState()
            if _is_complete(run, state) and not options:
                return
            kills = oom_kills()
            alive = observe(run, state).alive
            attempt = state.attempt - 1 if alive else state.attempt
            output = at_its_end(run.log_path)
            if alive:
                child: Child = Adopted(run)
                self.means.following.say(f"[INFO] process {child.pid} still trains {run.run_id}")
            else:
                child = self.means.launch(["resume", str(run.path), *options], run.log_path, False)
            code = self.means.following.end_of(child, output, run=run)
            state = run.read_state() or RunState()
            if alive and state.exit is None:
                code = None  # nobody has waited for it
            if state.attempt > attempt:  # it has taken the settings over
                options = []
                replace_file(run.path / ASKED, to_yaml(config).encode())
            if _is_complete(run, state):
                return
            if self.means.steering.stop is not None:
                raise self.means.steering.stop
            if state.status == "cancelled" and code == ExitCode.OK:
                reason = state.exit.reason if state.exit else "stopped"
                raise Stopped("cancelled", ExitCode.OK, f"{run.run_id}: {one_line(reason, 300)}")
            care = Care(run.run_id, RUNNING, attempt=attempt, history=history, oom_kills=kills)
            with IdleRun(run) as record:
                outcome = record_end(
                    record,
                    care,
                    code,
                    self.means.limits,
                    time.time(),
                    draining=False,
                    oom_kills=oom_kills(),
                )
            if outcome.care is None:
                raise StageError(f"{run.run_id}: {outcome.said}.")
            history = outcome.care.history
            self.means.following.say(f"[WARN] {run.run_id}: {outcome.said}")
            self._wait(outcome.delay)

    def _wait(self, seconds: float) -> None:
        until = self.clock() + seconds
        while self.clock() < until:
            self.means.steering.look()
            self.means.steering.check()
            self.means.following.pause()


def _is_complete(run: RunDirectory, state: RunState) -> bool:
    """Whether the last step was made and its checkpoint is whole."""
    if state.status != "completed":
        return False
    newest, _ = newest_sound(run.checkpoints)
    return newest is not None and newest.step >= state.current_step


def trained(run: RunDirectory, folder: Path) -> Trained:
    """The checkpoints of a completed run."""
    newest, problems = newest_sound(folder)
    if newest is None:
        raise StageError(f"{run.run_id} has no sound checkpoint: {'; '.join(problems) or 'none'}.")
    # `final` is made of links to the last step, and goes with it.
    last = folder / FINAL if newest.name == FINAL else newest.path
    best = link_target(folder, "best")
    lowest = folder / best if best and (folder / best).is_dir() else last
    return Trained(run.run_id, run.path, last, lowest)


def _as_options(changed: Mapping[str, Any]) -> list[str]:
    """The options of `trainer resume` for changed settings."""
    return [part for k, v in changed.items() for part in ("--set", assignment(k, v))]
