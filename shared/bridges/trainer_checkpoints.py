"""The checkpoints of transformers' Trainer, `checkpoint-N`, as those of a run.

They stay in the output folder, which the run links as its `checkpoints/`; each gets a manifest.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.checkpoints.catalogue import BEST, LATEST, set_link
from shared.checkpoints.manifest import write_manifest
from shared.checkpoints.owner import OWNER, owner_of
from shared.errors import UserError
from shared.files import replace_file
from shared.ownership.lock import RunLock
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from shared.text import one_line


def adopt_folder(folder: Path, run: RunDirectory) -> str:
    """Make `folder` the checkpoints of `run`, whose own folder is empty.

    A run that ended before gives it up, as the Trainer overwrites its checkpoints. Returns why it
    cannot be done; empty when it is. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    if run.checkpoints.resolve() == folder:
        return ""
    earlier = owner_of(folder)
    if earlier is not None:
        lock = RunLock(earlier.lock_path)
        try:
            lock.acquire()
        except UserError:
            return f"{one_line(earlier.run_id)} is saving its checkpoints in {folder}"
        try:
            earlier.checkpoints.unlink()
            earlier.checkpoints.mkdir()
        finally:
            lock.release()
    replace_file(folder / OWNER, f"{run.path.resolve()}\n".encode())
    run.checkpoints.rmdir()
    run.checkpoints.symlink_to(folder)
    return ""


class TrainerCheckpoints:
    """Describes saved checkpoints in a thread: reading them for their checksums takes a while.

    `wait` must be called before the Trainer saves or removes a checkpoint.
    """

    def __init__(self, writer: RunWriter, folder: Path) -> None:
        self._writer = writer
        self._folder = folder.resolve()
        self._thread: threading.Thread | None = None

    def saved(self, name: str, step: int, facts: Mapping[str, Any], best: str = "") -> None:
        """The Trainer has saved `name`; `best` is the name of its best checkpoint, if known."""
        self.wait()
        arguments = (self._folder / name, step, facts, best)
        self._thread = threading.Thread(target=self._describe, args=arguments, name="manifest")
        self._thread.start()

    def wait(self) -> tuple[str, ...]:
        """Wait until the newest checkpoint is described. Returns no names that must stay."""
        if self._thread:
            self._thread.join()
            self._thread = None
        return ()

    def _describe(self, folder: Path, step: int, facts: Mapping[str, Any], best: str) -> None:
        try:
            manifest = write_manifest(folder, step, facts)
            set_link(self._folder, LATEST, folder)
            if best:
                set_link(self._folder, BEST, self._folder / best)
        except OSError as error:
            message = f"{folder.name} cannot be described: {error.strerror}; it is not listed"
            self._writer.event("warning", message=one_line(message))
            return
        count = manifest.total_bytes
        self._writer.event("checkpoint_saved", name=folder.name, bytes=count, **facts)
        self._writer.update(latest_checkpoint=folder.name)
        if best:
            self._writer.update(best_checkpoint=best)
