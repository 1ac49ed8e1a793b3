"""The phases of a training: warmup while the learning rate rises, then full, or the stage's name
where the model grows; rl in reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable

from shared.run_writer import RunWriter
from trainer.loop.plan import Plan
from trainer.loop.session import Session

RL = "rl"  # phase of reinforcement learning


def phase_of(plan: Plan, step: int) -> str:
    """The phase that `step` (1-based) of a run with the plan's model belongs to."""
    if plan.config.data.dataset == "prompts":
        return RL
    if step <= plan.config.optim.warmup_steps:
        return "warmup"
    return plan.stages[plan.stage].phase


class Phases:
    """Records in which phase the run is."""

    def __init__(self, session: Session, writer: RunWriter) -> None:
        self._session = session
        self._writer = writer
        self._current = writer.state.current_phase
        #: The phase of the present step where it has one of its own.
        self.special: Callable[[], str | None] | None = None
        #: With this plan, all steps from this one on have the present phase.
        self._settled: tuple[Plan | None, int] = None, 0

    def enter(self, step: int) -> None:
        """Enter the phase of `step`, if it is another one."""
        plan, since = self._settled
        if plan is self._session.plan and step >= since:
            return  # after a rollback a step may lie before
        special = self.special() if self.special else None
        self.enter_phase(special or phase_of(self._session.plan, step), step)
        settled = self.special is None and step > self._session.config.optim.warmup_steps
        self._settled = (self._session.plan, step) if settled else (None, 0)

    def enter_phase(self, phase: str, step: int) -> None:
        """Enter a phase with `step`, if it is another one."""
        if phase != self._current:
            self._current = phase
            self._writer.set_phase(phase, step)
            self._writer.say(f"[INFO] PHASE {phase} (step {step})")

    def say_resumed(self) -> None:
        """Repeat the phase in the log, so that each attempt's log names it."""
        self._writer.say(f"[INFO] PHASE {self._current} (resumed)")
