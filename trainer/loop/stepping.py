"""Making steps, and what follows each: its record, its judgement, and perhaps a rollback.

On a GPU the figures of a step are read while the next one is computed, so that the device never
waits for the host. They are read at once where something is due after the step, such as a
validation or a checkpoint, and before anything else happens to the run. What a step does then does
not depend on when its figures are read:

- the device itself decides whether an update is skipped;
- if a step turns out to be one bad step too many, the step launched after it is withdrawn: the
  rollback undoes its update, and its position and record never come about;
- `stability.skip_spikes` compares a step's loss with those before it, so that it reads at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from shared.run_writer import RunWriter
from trainer.loop.hooks import Hooks
from trainer.loop.hybrid import Hybrid
from trainer.loop.iterations import Iterations
from trainer.loop.micro_batch import MicroBatch
from trainer.loop.part_care import PartCare
from trainer.loop.phases import Phases
from trainer.loop.records import StepRecords
from trainer.loop.recovery import Recovery
from trainer.loop.session import Session
from trainer.loop.step import LaunchedStep, StepResult, launch_step
from trainer.loop.step_policy import StepPolicy
from trainer.loop.validation import Validation

#: Steps that are looked at together for something due.
LOOK_AHEAD = 64


class Stepping:
    """Makes the steps of a run.

    `due` tells whether something happens after a step that needs its figures. Its answer for later
    steps may change only in a step that is due, with another plan, or in a rollback.
    """

    def __init__(
        self,
        session: Session,
        writer: RunWriter,
        hooks: Hooks,
        *,
        micro_batch: MicroBatch,
        policy: StepPolicy,
        phases: Phases,
        validation: Validation,
        recovery: Recovery,
        hybrid: Hybrid,
        iterations: Iterations,
        due: Callable[[int], bool],
    ) -> None:
        self._session = session
        self._hooks = hooks
        self._micro_batch = micro_batch
        self._policy = policy
        self._phases = phases
        self._validation = validation
        self._recovery = recovery
        self._parts = PartCare(session, writer, self.settle)
        #: What else is recorded of a step.
        self._further: list[Callable[[StepResult], dict[str, float]]] = []
        if hybrid.is_on:
            self._further.append(hybrid.follow)
        if iterations.is_on:
            self._further.append(lambda result: iterations.figures(result.position.step))
        self._records = StepRecords(session, writer)
        self._due = due
        self._late = reads_late(session, hooks)
        self._waiting: LaunchedStep | None = None
        self._read_at = -math.inf
        #: No step from the one that was looked at to this one has anything due, with this plan.
        self._quiet_until, self._quiet_plan = 0, session.plan

    def step(self, began: float | None = None) -> bool:
        """Make one step, and read the figures of the one before. Returns whether something is due
        after it, which then finds all steps recorded. Its time counts from when it `began`
        (`time.perf_counter`), if that was before.
        """
        session = self._session
        if session.learner.model.parts:
            self._parts.before_step()
        above = self._policy.skip_above()
        launched = launch_step(
            session, self._micro_batch, above, self._hooks, late=self._late, began=began
        )
        before, self._waiting = self._waiting, None
        if before is not None and self._follow(before, later=launched):
            return False
        due = self._is_due(launched.after.step)
        if self._late and not due:
            self._waiting = launched
        else:
            self._follow(launched, due=due)
        return due

    @property
    def next_is_quiet(self) -> bool:
        """Whether it is known that nothing is due after the next step, nor before it."""
        session = self._session
        next_step = session.progress.step + 1
        return next_step < self._quiet_until and session.plan is self._quiet_plan

    def _is_due(self, step: int) -> bool:
        """Whether something is due after `step`.

        The steps after one with nothing due are looked at together: asking all that may be due
        takes as long as the rest of the loop's work.
        """
        plan = self._session.plan
        if plan is self._quiet_plan and step < self._quiet_until:
            return False
        self._quiet_plan, self._quiet_until = plan, step
        while self._quiet_until < step + LOOK_AHEAD and not self._asked(self._quiet_until):
            self._quiet_until += 1
        return self._quiet_until == step

    def _asked(self, step: int) -> bool:
        return self._due(step) or self._parts.is_due(step)

    def settle(self) -> int:
        """Read the figures of every step; returns the number of the last, perhaps rolled back."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._follow(waiting)
        return self._session.progress.step

    def record(self) -> None:
        """Record a step whose figures were not read yet, whatever may follow from them."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and self._session.group.alone:  # else the others do not join in
            self._records.write(waiting.result(self._read_at), {})

    def _follow(
        self, launched: LaunchedStep, *, due: bool = False, later: LaunchedStep | None = None
    ) -> bool:
        """Evaluate the model if that is `due`, record and judge a step. If it was one bad step too
        many, roll back from there, past the `later` one, and return True.
        """
        session, hooks = self._session, self._hooks
        hooks.enter("wait")
        result = launched.result(self._read_at)
        hooks.enter("other")
        if self._late:
            self._read_at = time.perf_counter()
        hooks.after_step(session, result)
        self._phases.enter(result.position.step)
        evaluated: dict[str, float] = {}
        for figures in self._further:
            evaluated |= figures(result)
        if due:
            evaluated |= self._validation.evaluate_if_due() | self._parts.measure_if_due()
        hooks.enter("records")
        self._records.write(result, evaluated)
        hooks.enter("other")
        if not self._policy.judge(result):
            return False
        self._quiet_until = 0  # steps from before come again
        if later is not None:
            session.progress.position = later.before
        self._recovery.go_back(self._policy.bad)
        self._policy.restart()
        self._validation.forget()
        self._phases.enter(session.progress.step + 1)
        return True


def reads_late(session: Session, hooks: Hooks) -> bool:
    """Whether the figures of a step are read while the next one is computed.

    A CPU computes a step before `launch_step` returns: there is nothing to wait for.
    """
    late = session.compute.device.type == "cuda" if hooks.late is None else hooks.late
    return late and not session.config.stability.skip_spikes
