"""Saving checkpoints during training: in the background, with links, retention and alarms."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from shared.checkpoints.catalogue import (
    ADAPTER,
    BEST,
    LATEST,
    STAGE_ENDS,
    WEIGHTS,
    clean_leftovers,
    list_checkpoints,
    set_link,
    step_folder,
)
from shared.errors import RunError
from shared.run_writer import RunWriter
from shared.text import format_bytes
from trainer.checkpoint.average import write_average
from trainer.checkpoint.progress import Progress
from trainer.checkpoint.retention import apply_retention
from trainer.checkpoint.saving import (
    Snapshot,
    link_guide_names,
    training_state,
    weight_tensors,
    write_checkpoint,
    write_final,
)
from trainer.checkpoint.staging import Staging, give
from trainer.loop.hooks import NO_HOOKS, Hooks
from trainer.loop.out_of_memory import is_out_of_memory
from trainer.loop.session import Session

ALARM = "disk"
SPACE = "space"
SPARE_SAVES = 2  # warn unless this many more checkpoints fit
RETRY_SECONDS_LIMIT = 300.0  # until a save that failed is tried again, doubled each time
SLOW_SECONDS = 1.0  # a longer wait for the previous save is reported
_LOOK = 0.5  # seconds between signs of life while waiting for a save


@dataclass(frozen=True)
class Saved:
    """The outcome of a save."""

    folder: Path
    progress: Progress
    bytes: int
    seconds: float
    best: str | None
    removed: list[str]
    problems: list[str]


class CheckpointKeeper:
    """Owns the checkpoints folder of one run.

    A thread writes the files from copies of the tensors; the caller's thread records the outcome,
    in `collect`.
    """

    def __init__(self, session: Session, writer: RunWriter, hooks: Hooks = NO_HOOKS) -> None:
        self._session = session
        self._group = session.group
        self._hooks = hooks
        self._writer = writer
        self.folder = writer.run.checkpoints.resolve()
        self._place = _identity(self.folder)
        begun_from = session.resumed_from
        #: A run that began from another run's checkpoint has none of its own yet.
        own = begun_from is not None and begun_from.resolve().parent == self.folder
        self.last_saved_step = session.progress.step if own else -1
        background = session.config.checkpoint.background
        self._staging = Staging(hooks.available_memory) if background else None
        #: What gathers the rows of a model that is spread over ranks, in any case.
        self._gathering = self._staging or Staging(hooks.available_memory)
        self._thread = ThreadPoolExecutor(1, "save")
        self._saving: Future[Saved] | None = None
        #: What the newest save needs on the disk, at most.
        self.wanted_bytes = 0
        self._failed = False
        self._retry_seconds = hooks.retry_seconds
        self._retry_at = math.inf
        for name in clean_leftovers(self.folder) if self._group.writes else ():
            writer.event("leftover_removed", name=name)

    def save(self) -> None:
        """Save the current step before returning, unless it is saved already.

        Raises RunError if the checkpoint cannot be written; all older ones are kept then.
        """
        snapshot = self.take()
        self._group.decided(lambda: self.write(snapshot))

    def take(self) -> Snapshot | None:
        """What `write` writes of the current step: its tensors are those of the model, or copies
        if its rows are spread over ranks.

        None if the step is saved already, and on ranks that do not write.
        """
        if not self._group.decided(self._is_new):
            return None
        self._say_where()
        return self._snapshot(None)

    def write(self, snapshot: Snapshot | None) -> None:
        """Write what was taken, if anything, before returning. Raises RunError."""
        if snapshot is not None:
            self._record(lambda: self._write(snapshot, self._writer.progress))

    def _is_new(self) -> bool:
        """Whether the current step is not saved yet, once no save is running."""
        self.wait()
        return self.last_saved_step != self._session.progress.step

    def save_beside(self) -> None:
        """Save the current step in the background; `collect` records how it ended.

        Waits for a save that is still running, so a slow disk never needs memory for two copies.
        """
        if not self._group.decided(self._is_new_and_told):
            return
        self._say_where()
        try:
            snapshot = self._snapshot(self._staging)
        except RunError as error:
            self._record_failure(error)
            return
        if snapshot is None:
            return
        if self._staging is None:
            with contextlib.suppress(RunError):  # reported as an alarm
                self._record(lambda: self._write(snapshot, self._writer.progress))
            return
        self._saving = self._thread.submit(self._write, snapshot)

    def _is_new_and_told(self) -> bool:
        """`_is_new`, with a warning if that took long."""
        started = time.monotonic()
        new = self._is_new()
        waited = time.monotonic() - started
        if waited > SLOW_SECONDS:
            message = f"waited {waited:.1f} s for the previous save: the disk is slow"
            self._writer.event("warning", message=message)
            self._writer.say(f"[WARN] {message}")
        return new

    def collect(self, *, block: bool = False) -> None:
        """Record the outcome of a background save that has ended; `block`: wait for its end.

        A failure becomes an alarm. Costs nothing while no save is running.
        """
        saving = self._saving
        if saving is None:
            return
        while block and not saving.done():
            wait([saving], _LOOK)
            self._writer.progress()
        if saving.done():
            self._saving = None
            with contextlib.suppress(RunError):  # reported as an alarm
                self._record(saving.result)

    @property
    def has_news(self) -> bool:
        """Whether `collect` or `retry_due` may have something to do."""
        return self._failed or (self._saving is not None and self._saving.done())

    def wait(self) -> None:
        """Wait until no save is running."""
        self.collect(block=True)

    def close(self) -> None:
        """Wait for a running save and end the thread."""
        self.wait()
        self._thread.shutdown()

    def retry_due(self) -> bool:
        """Whether a save has failed and may succeed now. Costs nothing if none has failed."""
        if not self._failed or self._saving or time.monotonic() < self._retry_at:
            return False
        self._retry_at = time.monotonic() + self._hooks.retry_seconds
        try:
            return self._hooks.disk.free_bytes(self.folder) >= self.wanted_bytes
        except OSError:
            return False

    def rolled_back(self, step: int) -> None:
        """Training continues from the checkpoint of `step` (0: from the start)."""
        self.last_saved_step = step or -1

    def in_use(self) -> set[str]:
        """Names of the checkpoints that a resume or a rollback needs: they must not be removed."""
        return {f"step_{self.last_saved_step}"} if self.last_saved_step >= 0 else set()

    def best_saved(self) -> float | None:
        """The lowest cost by validation among the checkpoints in the folder that is comparable."""
        since = self._session.progress.comparable_from
        costs = [c.cost for c in list_checkpoints(self.folder) if c.whole and c.step >= since]
        return min((x for x in costs if x is not None), default=None)

    def finish(self) -> None:
        """Make `final/` from the last checkpoint. Raises RunError."""
        try:
            write_final(self.folder, step_folder(self.folder, self.last_saved_step))
        except OSError as error:
            raise RunError(f"The final checkpoint could not be made: {error}") from error
        self._writer.event("checkpoint_saved", name="final", val_loss=None)

    # -- in the saving thread ------------------------------------------------------------

    def _write(self, snapshot: Snapshot, progress: Callable[[], None] = lambda: None) -> Saved:
        """Write the checkpoint, move the links, remove old checkpoints."""
        started = time.monotonic()
        self.wanted_bytes = snapshot.bytes
        if self._writer.taken_over:
            raise RunError("Another process owns the run now; its checkpoints are not touched.")
        if self._place is None or _identity(self.folder) != self._place:
            # There may be another folder now, such as the mount point of a lost disk.
            raise RunError(f"The checkpoints folder {self.folder} has vanished.")
        folder = write_checkpoint(self.folder, snapshot, progress, self._hooks.disk)
        problems: list[str] = []
        best: str | None = None
        removed: list[str] = []
        since = snapshot.progress.comparable_from
        # The rest is tidying: the checkpoint is complete, even if the disk fails now.
        with _noting(problems):
            set_link(self.folder, LATEST, folder)
            best = self._move_best(since)
        for name in self._session.optimizer.averages.names:
            with _noting(problems):
                write_average(self.folder, name, snapshot)
        checkpoint = self._session.config.checkpoint
        with _noting(problems):
            steps = [stage.last_step for stage in self._session.plan.stages]
            ends = {
                f"step_{step}" for step in (*steps, *snapshot.progress.facts.get(STAGE_ENDS, []))
            }
            removed = apply_retention(
                self.folder, checkpoint.keep_last, checkpoint.save_top_k, since, ends
            )
        if checkpoint.dir is not None:
            with _noting(problems):
                every = self._session.config.steps_per_iteration
                rewarded = self._session.config.data.dataset == "prompts"
                iteration = snapshot.progress.step // every if rewarded else None
                link_guide_names(self.folder, folder, iteration)
        size = sum(p.stat().st_size for p in folder.iterdir())
        seconds = time.monotonic() - started
        return Saved(folder, snapshot.progress, size, seconds, best, removed, problems)

    def _move_best(self, since: int) -> str | None:
        """Point `best` at the lowest validation loss, or the highest validation reward, from the
        step `since` on, or at the lowest training loss if there is no other; else at the newest
        checkpoint, if `since` leaves out older ones.
        """
        every = list_checkpoints(self.folder)
        present = [c for c in every if c.whole and c.name != "final" and c.step >= since]
        measured = [(c.cost, c) for c in present if c.cost is not None]
        losses_tell = self._session.config.data.dataset != "prompts"
        if not measured and not self._session.sources.validation and losses_tell:
            measured = [(c.loss, c) for c in present if c.loss is not None]
        if not measured and since:  # the link must not stay at what is no longer comparable
            measured = [(math.inf, c) for c in present]
        if not measured:
            return None
        best = min(measured, key=lambda pair: (pair[0], -pair[1].step))[1]
        set_link(self.folder, BEST, best.path)
        return best.name

    # -- in the loop's thread ------------------------------------------------------------

    def _record(self, outcome: Callable[[], Saved]) -> None:
        """Record what `outcome` returns. If it fails, raise an alarm and RunError."""
        writer = self._writer
        try:
            saved = outcome()
        except (RunError, OSError) as error:
            self._record_failure(error)
            raise RunError(str(error)) from error
        self._failed, self._retry_seconds = False, self._hooks.retry_seconds
        name, progress = saved.folder.name, saved.progress
        self.last_saved_step = progress.step
        writer.event(
            "checkpoint_saved",
            step=progress.step,  # training has moved on since
            name=name,
            bytes=saved.bytes,
            seconds=saved.seconds,
            loss=progress.loss,
            val_loss=progress.val_loss,
            **({} if progress.val_reward is None else {"val_reward": progress.val_reward}),
        )
        for removed in saved.removed:
            writer.event("checkpoint_removed", name=removed, reason="retention")
        for problem in saved.problems:
            message = f"after saving {name}: {problem}"
            writer.event("warning", message=message)
            writer.say(f"[WARN] {message}")
        best = saved.best or writer.state.best_checkpoint
        with contextlib.suppress(OSError):  # on a full disk the pulse writes it later
            writer.update(latest_checkpoint=name, best_checkpoint=best, durable=True)
        writer.progress()
        writer.say(f"[INFO] Saved {name} ({format_bytes(saved.bytes)} in {saved.seconds:.1f} s)")
        writer.alarm_over(ALARM, f"{name} is saved: checkpoints can be written again")
        self._look_at_space()

    def _record_failure(self, error: Exception) -> None:
        """Record that a save failed, and raise an alarm."""
        self._failed, self._retry_at = True, time.monotonic() + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS_LIMIT)
        self._writer.event("checkpoint_failed", message=str(error))
        self._writer.alarm(ALARM, f"{error} Training continues; the older checkpoints are kept.")

    def _look_at_space(self) -> None:
        """Warn before the disk is full: when two more checkpoints do not fit."""
        try:
            free = self._hooks.disk.free_bytes(self.folder)
        except OSError:
            return
        if free < SPARE_SAVES * self.wanted_bytes:
            message = (
                f"Only {format_bytes(free)} are free in {self.folder}; a checkpoint takes "
                f"{format_bytes(self.wanted_bytes)}."
            )
            self._writer.alarm(SPACE, message)
        else:
            self._writer.alarm_over(SPACE, f"Enough space again: {format_bytes(free)} are free")

    def _say_where(self) -> None:
        step = self._session.progress.step
        name = WEIGHTS if self._session.model.base is None else ADAPTER
        where = self._writer.run.path / "checkpoints" / f"step_{step}" / name
        self._writer.say(f"[INFO] Saving checkpoint to {where}")

    def _snapshot(self, staging: Staging | None) -> Snapshot | None:
        """The contents of the current step's checkpoint; copied if they are written later.

        Every rank gives its part; only the one that writes gets them. Raises RunError if it has no
        memory for the rows of all.
        """
        session, writer = self._session, self._writer
        state, progress = writer.state, session.progress
        progress.best_loss, progress.best_step = state.best_loss, state.best_step
        progress.best_metric = state.best_metric
        if progress.best_loss is not None and not math.isfinite(progress.best_loss):
            progress.best_loss = progress.best_step = None
        progress.facts["data"] = session.sources.identity
        choice = session.compute.choice
        progress.facts["compute"] = choice.to_plain() if choice else None
        weights = weight_tensors(session.model)
        others, generators = training_state(session.optimizer, self._group)
        both = {f"weights {k}": v for k, v in weights.items()}
        both.update((f"state {k}", v) for k, v in others.items())
        gathered = self._gathered(both) if session.optimizer.sharing.spreads_rows else None
        if not self._group.writes:
            return None
        copies = gathered
        if copies is None and staging is not None:
            copies = self._copied(staging, both)
            if copies is None:
                self._save_without_copies()
        if copies is not None:
            weights = {name: copies[f"weights {name}"] for name in weights}
            others = {name: copies[f"state {name}"] for name in others}
        return Snapshot(
            config=session.config,
            progress=dataclasses.replace(progress, facts=dict(progress.facts)),
            weights=weights,
            state=others,
            random=generators,
            tokenizer=session.sources.tokenizer,
            end_ids=session.end_ids,
            run_id=writer.run.run_id,
            run_path=str(writer.run.path.resolve()),
            base=session.model.base,
        )

    def _gathered(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Whole copies of tensors that are spread over ranks, on the rank that writes."""
        if not self._group.decided(lambda: self._has_room(tensors)):
            needed = format_bytes(sum(tensor.nbytes for tensor in tensors.values()))
            raise RunError(
                f"The checkpoint of step {self._session.progress.step} needs {needed} of main "
                "memory where rank 0 is, to gather the rows of all ranks, and they are not free."
            )
        if self._group.writes:
            return self._gathering.copy(tensors)
        give(tensors)
        return {}

    def _has_room(self, tensors: dict[str, Tensor]) -> bool:
        try:
            self._hooks.before_copy(self._session)
        except MemoryError:
            return False
        return self._gathering.fits(tensors)

    def _copied(self, staging: Staging, tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Copies of `tensors`, None if memory does not hold them."""
        try:
            self._hooks.before_copy(self._session)
            return staging.copy(tensors) if staging.fits(tensors) else None
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _save_without_copies(self) -> None:
        """From now on, write every checkpoint in the loop."""
        self._staging = None
        message = "not enough memory for a copy: training waits while checkpoints are written"
        self._writer.event("warning", message=message)
        self._writer.say(f"[WARN] {message}")


@contextlib.contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Append the text of an OSError to `problems`."""
    try:
        yield
    except OSError as error:
        problems.append(str(error))


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode of the folder; None if it does not exist."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
