"""What the loop does for the parts of the model: before a step, and now and then after one."""

from __future__ import annotations

import torch

from shared.run_writer import RunWriter
from trainer.data.batches import to_tensors
from trainer.loop.position import show_position
from trainer.loop.session import Session

#: Of the sequence that parts measure themselves on: little beside a step.
POSITIONS = 256


class PartCare:
    """Tells the parts which step comes, and measures what they do to the model."""

    def __init__(self, session: Session, writer: RunWriter) -> None:
        self._session = session
        self._writer = writer

    def before_step(self) -> None:
        """Let every part prepare for the next step."""
        session = self._session
        step = session.progress.step + 1
        for part in session.model.parts:
            begins = part.before_step(session.model, step, session.max_steps)
            if begins:
                # The model computes something else now: its losses are not those of before.
                session.progress.forget_best()
                show_position(session, self._writer)
                self._writer.event("part", step=step, part=part.name, message=begins)
                self._writer.say(f"[INFO] {begins}")

    @torch.no_grad()
    def measure_if_due(self) -> dict[str, float]:
        """The parts' metrics, at the steps that the console shows."""
        session = self._session
        model, step = session.model, session.progress.step
        due = step % session.config.log.interval == 0 or step == session.max_steps
        if not due or not model.parts:
            return {}
        model.eval()
        with session.compute.autocast():
            batch = session.sources.train.batch(0, 1)
            ids_1T = to_tensors(batch, session.compute.device)[0][:, :POSITIONS]
            metrics = {
                key: value
                for part in model.parts
                for key, value in part.measure(model, ids_1T).items()
            }
        model.train()
        return metrics
