"""What the loop does for the parts of the model: before a step, and now and then after one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from shared.run_writer import RunWriter
from trainer.data.batches import to_tensors
from trainer.loop.hooks import nothing
from trainer.loop.position import show_position
from trainer.loop.session import Session
from trainer.model.language_model import LanguageModel

#: Of the sequence that parts measure themselves on: little beside a step.
POSITIONS = 256


class PartCare:
    """Tells the parts which step comes, and measures what they do to the model."""

    def __init__(
        self, session: Session, writer: RunWriter, settle: Callable[[], object] = nothing
    ) -> None:
        """`settle` records the steps that were made, before one that computes something else."""
        self._session = session
        self._writer = writer
        self._settle = settle

    def before_step(self) -> None:
        """Let every part prepare for the next step."""
        session = self._session
        step = session.progress.step + 1
        for part in session.model.parts:
            begins = part.before_step(session.model, step, session.max_steps)
            if begins:
                self._settle()
                # The model computes something else now: its losses are not those of before.
                session.progress.forget_best()
                show_position(session, self._writer)
                self._writer.event("part", step=step, part=part.name, message=begins)
                self._writer.say(f"[INFO] {begins}")

    def is_due(self, step: int) -> bool:
        """Whether the parts measure themselves after `step`."""
        session = self._session
        if not session.model.parts:
            return False
        return step % session.config.log.interval == 0 or step == session.max_steps

    @torch.no_grad()
    def measure_if_due(self) -> dict[str, float]:
        """The parts' metrics, at the steps that the console shows."""
        session = self._session
        model = session.model
        if not self.is_due(session.progress.step):
            return {}
        model.eval()
        with session.compute.autocast():
            # Of the steps of an iteration only the answers of the present one are there.
            rewarded = session.config.data.dataset == "prompts"
            first = session.progress.samples - session.plan.sequences_per_step if rewarded else 0
            batch = session.sources.train.batch(first, 1)
            ids_1T = to_tensors(batch, session.compute.device)[0][:, :POSITIONS]
            metrics = session.learner.parallel.call(_measured, model, ids_1T)
        model.train()
        return metrics


def _measured(model: LanguageModel, ids_1T: Tensor) -> dict[str, float]:
    return {
        key: value for part in model.parts for key, value in part.measure(model, ids_1T).items()
    }
