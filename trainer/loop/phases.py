"""The phases of a plain training: warmup while the learning rate rises, then full."""

from __future__ import annotations

from shared.run_writer import RunWriter
from trainer.config.schema import Config
from trainer.loop.session import Session


def phase_of(config: Config, step: int) -> str:
    """The phase that `step` (1-based) belongs to."""
    return "warmup" if step <= config.optim.warmup_steps else "full"


class Phases:
    """Records in which phase the run is."""

    def __init__(self, session: Session, writer: RunWriter) -> None:
        self._session = session
        self._writer = writer
        self._current = writer.state.current_phase

    def enter(self, step: int) -> None:
        """Enter the phase of `step`, if it is another one."""
        phase = phase_of(self._session.config, step)
        if phase != self._current:
            self._current = phase
            self._writer.set_phase(phase, step)
            self._writer.say(f"[INFO] PHASE {phase} (step {step})")

    def say_resumed(self) -> None:
        """Repeat the phase in the log, so that each attempt's log names it."""
        self._writer.say(f"[INFO] PHASE {self._current} (resumed)")
