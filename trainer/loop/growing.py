"""A run whose model grows: at the end of a stage its checkpoint becomes a larger model."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from shared.checkpoints.catalogue import STAGE_ENDS
from shared.errors import RunError
from shared.json_text import Json
from shared.run_writer import RunWriter
from shared.text import format_count
from trainer.checkpoint.disk import Disk
from trainer.checkpoint.loading import load_training_state
from trainer.checkpoint.saving import write_checkpoint
from trainer.growth.checkpoint import (
    GrowthError,
    check_growth,
    grown_snapshot,
    open_source,
    sequences,
)
from trainer.growth.plan import plan_growth
from trainer.growth.sizes import sizes_of
from trainer.hybrid.cycle import Cycle
from trainer.loop.keeper import CheckpointKeeper
from trainer.loop.memory import Memory
from trainer.loop.plan import plan_of_stage
from trainer.loop.saving import Saving
from trainer.loop.session import Session
from trainer.model.facts import model_facts
from trainer.model.shapes import count_parameters

MEASURED = 2  # training sequences on which both models are compared
AGAIN = 20  # steps until a growth that the disk did not allow is tried again


class Growing:
    """Grows the model between two steps.

    The stage's last checkpoint is saved first and stands whatever happens. The larger model is
    written beside it and loaded as a resume would, so a run on many devices grows as one on a
    single device does. A run that is killed meanwhile resumes with the old stage, and grows again.
    """

    def __init__(
        self,
        session: Session,
        writer: RunWriter,
        keeper: CheckpointKeeper,
        saving: Saving,
        memory: Memory,
        *,
        disk: Disk,
    ) -> None:
        self._session = session
        self._writer = writer
        self._keeper = keeper
        self._saving = saving
        self._memory = memory
        self._disk = disk
        self._not_before = 0

    def is_due(self, step: int) -> bool:
        """Whether the model grows after `step`, if that and the steps before it were good."""
        plan = self._session.plan
        last = plan.stages[plan.stage].last_step
        return last is not None and step >= max(last, self._not_before)

    def grow_if_due(self) -> None:
        """Grow, if the stage has made its last step. Costs nothing in a run without stages."""
        session = self._session
        stage, step = session.plan.stage, session.progress.step
        if not self.is_due(step) or not self._saving.possible:
            return
        started = time.monotonic()
        try:
            self._saving.save()
        except RunError as error:  # told by the keeper
            self._postpone(str(error))
            return
        place = self._keeper.folder / f".tmp-grown-step_{step}"
        try:
            told = session.group.decided(lambda: self._write(place))
            self._go_on(Path(told["folder"]))
            session.group.agree(0.0)  # every rank has read it: it may be removed
        except GrowthError:
            raise
        except RunError as error:
            if session.plan.stage != stage:
                raise
            self._postpone(str(error))
            return
        finally:
            if session.group.writes:
                shutil.rmtree(place, ignore_errors=True)
        self._tell(told, time.monotonic() - started)

    def _write(self, place: Path) -> Json:
        """Write the larger model's checkpoint in `place`. Raises RunError."""
        session, progress = self._session, self._session.progress
        plan = session.plan
        source = open_source(self._keeper.folder / f"step_{progress.step}")
        growth = plan_growth(
            session.config.model,
            sizes_of(plan.stages[plan.stage + 1].model),
            method=plan.growth.method,
            place=plan.growth.place,
        )
        snapshot = grown_snapshot(source, growth, session.config.train.seed)
        tokens = session.sources.train.batch(progress.samples, MEASURED)[0].reshape(-1)
        ids = sequences(tokens, session.config.seq_len, MEASURED)
        measured = check_growth(source, growth, snapshot, ids)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        folder = write_checkpoint(place, snapshot, self._writer.progress, self._disk)
        return {"folder": str(folder), **vars(measured)}

    def _go_on(self, folder: Path) -> None:
        """Train the larger model in `folder` from here on."""
        session = self._session
        session.rebuild(plan_of_stage(session.plan, session.plan.stage + 1))
        load_training_state(folder, session.model, session.optimizer, session.group)
        progress = session.progress
        if progress.hybrid:
            progress.hybrid = vars(Cycle.read(progress.hybrid).grown())
        progress.facts[STAGE_ENDS] = [*progress.facts.get(STAGE_ENDS, []), progress.step]
        self._memory.fit_again()

    def _postpone(self, error: str) -> None:
        self._not_before = self._session.progress.step + AGAIN
        message = f"The model could not grow and is trained on as it is: {error}"
        self._writer.event("warning", message=message)
        self._writer.say(f"[WARN] {message}")

    def _tell(self, told: Json, seconds: float) -> None:
        session, writer = self._session, self._writer
        before, after = (
            count_parameters(session.plan.stages[stage].model)
            for stage in (session.plan.stage - 1, session.plan.stage)
        )
        writer.update(model=writer.state.model | model_facts(session.config.model))
        writer.set_status("running")  # the time left is counted anew: steps take longer now
        message = (
            f"The model has grown from {format_count(before)} to {format_count(after)} parameters "
            f"in {seconds:.1f} s; its loss on {told['tokens']} tokens was "
            f"{told['loss_before']:.4f} and is {told['loss_after']:.4f}"
        )
        facts = {key: value for key, value in told.items() if key != "folder"}
        writer.event("grown", parameters=[before, after], message=message, **facts)
        writer.say(f"[INFO] {message}")
