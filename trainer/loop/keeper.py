"""Saving during training: when, under which links, and what may go afterwards."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

from shared.catalogue import (
    BEST,
    LATEST,
    clean_leftovers,
    list_checkpoints,
    set_link,
    step_folder,
)
from shared.errors import RunError
from shared.run_writer import RunWriter
from shared.text import format_bytes
from trainer.checkpoint.retention import apply_retention
from trainer.checkpoint.saving import (
    Snapshot,
    link_guide_names,
    snapshot_random,
    state_tensors,
    weight_tensors,
    write_checkpoint,
    write_final,
)
from trainer.loop.session import Session


class CheckpointKeeper:
    """Owns the checkpoints folder of one run."""

    def __init__(self, session: Session, writer: RunWriter) -> None:
        self._session = session
        self._writer = writer
        self.folder = writer.run.checkpoints.resolve()
        begun_from = session.resumed_from
        #: A run begun from another run's checkpoint has none of its own yet.
        own = begun_from is not None and begun_from.resolve().parent == self.folder
        self.last_saved_step = session.progress.step if own else -1
        for name in clean_leftovers(self.folder):
            writer.event("leftover_removed", name=name)

    def save(self) -> Path:
        """Save the present step, move `latest` and `best`, then let old checkpoints go.

        A step that is saved already is left as it is. Raises RunError when the checkpoint could
        not be written; the older ones are all still there then.
        """
        session, writer = self._session, self._writer
        progress = session.progress
        if self.last_saved_step == progress.step:
            return step_folder(self.folder, progress.step)
        started = time.monotonic()
        where = writer.run.path / "checkpoints" / f"step_{progress.step}" / "model.safetensors"
        writer.say(f"[INFO] Saving checkpoint to {where}")
        folder = write_checkpoint(self.folder, self._snapshot(), writer.progress)
        self.last_saved_step = progress.step
        best, removed = self._tidy(folder)
        seconds = time.monotonic() - started
        size = sum(p.stat().st_size for p in folder.iterdir())
        writer.event(
            "checkpoint_saved",
            name=folder.name,
            bytes=size,
            seconds=seconds,
            loss=progress.loss,
            val_loss=progress.val_loss,
        )
        for name in removed:
            writer.event("checkpoint_removed", name=name, reason="retention")
        with contextlib.suppress(OSError):  # a full disk: the pulse writes it when it can
            writer.update(latest_checkpoint=folder.name, best_checkpoint=best, durable=True)
        writer.progress()
        writer.say(f"[INFO] Saved {folder.name} ({format_bytes(size)} in {seconds:.1f} s)")
        return folder

    def _tidy(self, folder: Path) -> tuple[str | None, list[str]]:
        """Links and retention; returns the best checkpoint's name and what was removed.

        The checkpoint is safe by now: a filesystem without links, or one that will not let go of
        an old folder, is told of and ends nothing.
        """
        settings = self._session.config.checkpoint
        best = self._writer.state.best_checkpoint
        removed: list[str] = []
        with self._told(folder):
            set_link(self.folder, LATEST, folder)
            best = self._move_best()
        # By itself: where there are no links, old checkpoints must not fill the disk.
        with self._told(folder):
            removed = apply_retention(self.folder, settings.keep_last, settings.save_top_k)
        with self._told(folder):
            if settings.dir is not None:
                link_guide_names(self.folder, folder)
        return best, removed

    @contextlib.contextmanager
    def _told(self, folder: Path) -> Iterator[None]:
        """Turn an OSError into a warning."""
        try:
            yield
        except OSError as error:
            message = f"after saving {folder.name}: {error}"
            self._writer.event("warning", message=message)
            self._writer.say(f"[WARN] {message}")

    def best_saved(self) -> float | None:
        """The lowest validation loss of a checkpoint that is there."""
        losses = [c.val_loss for c in list_checkpoints(self.folder) if c.whole]
        return min((x for x in losses if x is not None), default=None)

    def finish(self, folder: Path) -> None:
        """Make `final/` out of the last checkpoint."""
        try:
            write_final(self.folder, folder)
        except OSError as error:
            raise RunError(f"The final checkpoint could not be made: {error}") from error
        self._writer.event("checkpoint_saved", name="final", val_loss=None)

    def _move_best(self) -> str | None:
        """Point `best` at the lowest validation loss, or training loss where there is no other."""
        present = [c for c in list_checkpoints(self.folder) if c.whole and c.name != "final"]
        measured = [(c.val_loss, c) for c in present if c.val_loss is not None]
        if not measured and not self._session.sources.validation:
            measured = [(c.loss, c) for c in present if c.loss is not None]
        if not measured:
            return None
        best = min(measured, key=lambda pair: (pair[0], -pair[1].step))[1]
        set_link(self.folder, BEST, best.path)
        return best.name

    def _snapshot(self) -> Snapshot:
        session, writer = self._session, self._writer
        state, progress = writer.state, session.progress
        progress.best_loss, progress.best_step = state.best_loss, state.best_step
        progress.best_metric = state.best_metric
        if progress.best_loss is not None and not math.isfinite(progress.best_loss):
            progress.best_loss = progress.best_step = None
        progress.facts["data"] = session.sources.identity
        return Snapshot(
            config=session.config,
            progress=progress,
            weights=weight_tensors(session.model),
            state=state_tensors(session.model, session.optimizer),
            random=snapshot_random(),
            tokenizer=session.sources.tokenizer,
            run_id=writer.run.run_id,
            run_path=str(writer.run.path.resolve()),
        )
