"""The training loop: the story of a run, told by collaborators with one job each."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable

from shared.errors import ExitCode, RunError
from shared.run_writer import RunWriter
from shared.text import plural
from trainer.loop.beginning import announce, check_first_loss
from trainer.loop.garbage import Garbage
from trainer.loop.growing import Growing
from trainer.loop.hooks import NO_HOOKS, Hooks
from trainer.loop.hybrid import Hybrid
from trainer.loop.iterations import Interrupted, Iterations
from trainer.loop.keeper import CheckpointKeeper
from trainer.loop.memory import Memory
from trainer.loop.phases import Phases
from trainer.loop.recovery import DivergedError, Recovery
from trainer.loop.saving import Saving
from trainer.loop.session import Session
from trainer.loop.shared_steering import SharedSteering
from trainer.loop.signals import StopSignals
from trainer.loop.steering import Steering, Stop
from trainer.loop.step_policy import StepPolicy
from trainer.loop.stepping import Stepping
from trainer.loop.validation import Validation


class Training:
    """One run from its session's position to its last step, or to a stop.

    Collaborators keep the session, never its model or optimizer: `Session.rebuild` may replace
    them between two steps.
    """

    def __init__(
        self,
        session: Session,
        writer: RunWriter,
        signals: StopSignals | None = None,
        hooks: Hooks = NO_HOOKS,
    ) -> None:
        """`signals` are already being listened to: one may have come during the start."""
        self.session = session
        self.writer = writer
        self.keeper = CheckpointKeeper(session, writer, hooks)
        self._hooks = hooks
        self._tightened = False
        self._signals = signals or StopSignals()
        self._garbage = Garbage()
        self._memory = Memory(session, writer, hooks)
        self._policy = StepPolicy(session, writer)
        self._phases = Phases(session, writer)
        self._iterations = Iterations(session, writer, self._memory.evaluation, hooks)
        self._validation = Validation(
            session, writer, self._memory.evaluation, hooks, self._iterations.evaluate
        )
        self._hybrid = Hybrid(session, writer, self._phases, self._validation)
        self._steps = Stepping(
            session,
            writer,
            hooks,
            micro_batch=self._memory.training,
            policy=self._policy,
            phases=self._phases,
            validation=self._validation,
            recovery=Recovery(session, writer, self.keeper),
            hybrid=self._hybrid,
            iterations=self._iterations,
            due=self._is_due,
        )
        self._saving = Saving(
            session,
            writer,
            self.keeper,
            policy=self._policy,
            validation=self._validation,
            settle=self._steps.settle,
        )
        self._growing = Growing(
            session, writer, self.keeper, self._saving, self._memory, disk=hooks.disk
        )
        self._steering = SharedSteering(
            session.group,
            self._signals,
            self.keeper,
            self._serving,
            save=self._saving.save,
            settle=self._steps.settle,
        )
        self._iterations.attend(self._interruption)

    def _serving(self, save: Callable[[], None]) -> Steering:
        def check() -> None:
            self._check_directory()
            self._steering.look()

        return Steering(self.writer, self._signals, self.keeper, save, check)

    def run(self) -> ExitCode:
        """Train. The end is in the run's state; the exit code tells the caller."""
        try:
            self._begin()
            try:
                stop = self._train()
            except BaseException:
                with contextlib.suppress(Exception):  # the reason of the end comes first
                    self._steps.record()
                raise
            return self._end_stopped(stop) if stop else self._end_completed()
        except DivergedError as error:
            self.keeper.wait()
            self.writer.finish("failed", int(error.exit_code), str(error), final=True)
            raise
        finally:
            self._steering.close()
            self._iterations.close()
            self.session.feed.close()
            self.keeper.close()

    def _begin(self) -> None:
        session, writer = self.session, self.writer
        announce(session, writer)
        self._memory.fit()
        writer.set_status("running")
        self._phases.enter(session.progress.step + 1)
        if session.progress.step == 0 and session.config.data.dataset == "prompts":
            self._validation.evaluate_first()
        elif session.progress.step == 0:
            check_first_loss(session, writer)
        else:
            self._phases.say_resumed()
            self._saving.save()  # does nothing unless the run began from another run's checkpoint

    def _train(self) -> Stop | None:
        with self._garbage:
            return self._step_by_step()

    def _step_by_step(self) -> Stop | None:
        while not self._is_over():
            stop = self._interruption()
            if stop:
                return stop
            self._growing.grow_if_due()
            self._hooks.before_step(self)
            try:
                began = self._iterations.begin_if_due()
            except Interrupted as interrupted:
                return interrupted.stop
            due = self._hybrid.predict_if_due() or self._steps.step(began)
            self._tighten()
            if due:
                self._validation.sample_if_due()
            retry = self._steering.retry and self._iterations.between
            if due or retry:
                self._saving.save_if_due(retry=retry)
            self.keeper.collect()
            self._garbage.collect_if(due)
            self._check_directory()
            self._make_quiet_steps()
        self._steps.settle()
        return None

    def _make_quiet_steps(self) -> None:
        """Make steps after which nothing is due, until something comes up.

        To ask everyone above in every step takes as long as to record it. Ranks have to: they ask
        each other.
        """
        while (
            self._steps.next_is_quiet
            and self.session.plan.group.alone
            and not self._something_came_up()
        ):
            self._hooks.before_step(self)
            self._steps.step()
            self._garbage.collect_if(False)

    def _something_came_up(self) -> bool:
        return bool(
            self._steering.is_asked
            or self.keeper.has_news
            or self.writer.directory_problem
            or self._time_is_up()
        )

    def _interruption(self) -> Stop | None:
        """What has been asked for, handled; in the middle of an iteration it has to wait."""
        return self._steering.interruption() if self._iterations.between else None

    def _is_due(self, step: int) -> bool:
        """Whether something happens after `step` for which all steps must be recorded."""
        validation = self._validation
        return (
            validation.is_due(step)
            or validation.sample_is_due(step)
            or self._saving.is_due(step)
            or self._growing.is_due(step)
            or self._hybrid.is_due(step)
            or self._iterations.ends_with(step)
            or validation.patience.is_over  # it ends as soon as no step is bad
        )

    def _tighten(self) -> None:
        """After a step all ranks are at work: from now on a long silence means that one hangs."""
        session = self.session
        session.group.at(session.progress.step)
        if not self._tightened:
            self._tightened = True
            session.group.limit(session.config.distributed.timeout)

    def _is_over(self) -> bool:
        if self.session.progress.step >= self.session.max_steps:
            return True
        return self._iterations.between and (self._time_is_up() or self._stops_early())

    def _time_is_up(self) -> bool:
        hours = self.session.plan.config.train.max_hours
        return hours is not None and self.session.progress.seconds >= 3600 * hours

    def _stops_early(self) -> bool:
        # Not while steps are bad: they are followed by a rollback, or by better ones.
        return self._validation.patience.is_over and not self._policy.bad.count

    def _end_stopped(self, stop: Stop) -> ExitCode:
        writer = self.writer
        writer.set_status("stopping")
        writer.say(f"[INFO] Stopping after step {self.session.progress.step}: {stop.reason}")
        reason = stop.reason + self._saving.save_on_stopping()
        saved = writer.state.latest_checkpoint or "nothing"
        writer.say(f"[INFO] {saved} is saved; continue with: trainer resume {_quoted(writer)}")
        with contextlib.suppress(OSError):  # told on the console; a full disk must not undo a stop
            writer.finish(stop.status, stop.code, reason)
        return stop.code

    def _end_completed(self) -> ExitCode:
        session, writer = self.session, self.writer
        step, steps = session.progress.step, session.max_steps
        if self._policy.bad.count:
            raise DivergedError(
                f"The last step, {step}, was not finite: there is no final checkpoint"
            )
        early = step < steps and self._stops_early()
        if session.sources.validation and not self._validation.is_done and step < steps:
            # `max_hours` ended it in between.
            writer.log(step, **self._validation.evaluate(for_patience=False))
        self._saving.save_last(self._signals, self._hooks)
        best = writer.state.best_loss
        shown = f", best {writer.state.best_metric} {best:.4f}" if best is not None else ""
        reason = f"reached step {step}"
        if early:
            reason = self._validation.patience.tell()
        elif step < steps:
            hours = session.config.train.max_hours or 0.0
            reason += f" of {steps} in {hours:g} {'hour' if hours == 1 else 'hours'}"
        writer.say(f"[INFO] Finished {plural(step, 'step')}{shown}: {writer.run.path}")
        writer.finish("completed", ExitCode.OK, reason)
        return ExitCode.OK

    def _check_directory(self) -> None:
        """Stop when the run directory has been gone for too long, or is another process's."""
        writer = self.writer
        lost = writer.directory_lost_seconds
        if not lost:
            return
        if writer.taken_over:
            raise RunError(f"{writer.directory_problem}; training ends here.")
        if lost > self.session.config.stability.directory_grace:
            raise RunError(
                f"{writer.directory_problem}. This has lasted {lost:.0f} s; training ends "
                f"at step {self.session.progress.step}. When the directory is back: trainer "
                f"resume {_quoted(writer)}"
            )


def _quoted(writer: RunWriter) -> str:
    """The run's path as a word of a command to copy."""
    return shlex.quote(str(writer.run.path))
