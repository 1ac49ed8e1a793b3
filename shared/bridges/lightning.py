"""Lightning writes our run directory and obeys its keys.

`Trainer(logger=RunLogger("runs", "my-model"), callbacks=[RunCallback()])`
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.bridges.configuration import config_of
from shared.bridges.open_run import OpenRun, numbers_of
from shared.bridges.ranks import RANKS_EVERY, TURN, agree
from shared.bridges.saving import place_for, put_in_place
from shared.bridges.steering import NOTHING, Wish
from shared.json_text import Json
from shared.run_writer import RunWriter

if TYPE_CHECKING:
    RunLogger: Any
    RunCallback: Any

_FILE = "lightning.ckpt"


class LoggedRun:
    """What `RunLogger` does, on rank 0 alone. The run is opened when something is to be written."""

    def __init__(self, runs_dir: str | Path = "runs", name: str = "lightning") -> None:
        super().__init__()
        self._runs_dir = Path(runs_dir).absolute()
        self._name = name
        self._settings: Json = {}
        self._run: OpenRun | None = None
        self._ended = False

    @property
    def name(self) -> str:
        """The name of the run."""
        return self._name

    @property
    def version(self) -> str:
        """The run's folder."""
        return self._run.writer.run.run_id if self._run else ""

    @property
    def experiment(self) -> RunWriter | None:
        """The run; None on other ranks than 0."""
        run = self.opened()
        return run.writer if run else None

    def opened(self) -> OpenRun | None:
        """The run, opened by the first call; None on other ranks, and once the run has ended."""
        if self._run is None and not self._ended and _is_rank_zero():
            config = config_of("lightning", hyperparameters=self._settings)
            writer = RunWriter(self._runs_dir, self._name, config=config)
            self._run = OpenRun(writer)
        return None if self._ended else self._run

    def log_hyperparams(self, params: Any = None, *more: Any, **kwargs: Any) -> None:
        """Write the configuration."""
        self._settings.update(vars(params) if hasattr(params, "__dict__") else dict(params or {}))
        self._settings.update(kwargs)
        if run := self.opened():
            run.writer.write_config(config_of("lightning", hyperparameters=self._settings))

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Record metrics. Lightning counts the step it logs from 0, and the callback from 1."""
        if run := self.opened():
            run.log(max(step or 0, run.newest), numbers_of(metrics))

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Record a checkpoint that Lightning's own callback has saved."""
        run, path = self.opened(), getattr(checkpoint_callback, "_last_checkpoint_saved", "")
        if run and path:
            run.writer.event("checkpoint_saved", name=Path(path).name)
            run.worked()

    def finalize(self, status: str) -> None:
        """Record the end."""
        self.end(None if status in ("success", "finished") else RuntimeError(f"training {status}"))

    def end(self, error: BaseException | None = None) -> None:
        """Record the end, by `error` if there is one. Later calls do nothing."""
        if self._run and not self._ended:
            self._run.finish(error)
        self._ended = True


class ObeyingRun:
    """What `RunCallback` does: it times the steps of a run and obeys requests to it."""

    def __init__(self) -> None:
        self._logger: LoggedRun | None = None
        self._step = 0
        self._paused = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Find the logger among the trainer's, and tell the run what is planned."""
        self._logger = next((x for x in trainer.loggers if isinstance(x, LoggedRun)), None)
        self._step = trainer.global_step
        run = self._logger.opened() if self._logger else None
        if run:
            steps = trainer.estimated_stepping_batches
            count = sum(p.numel() for p in pl_module.parameters())
            run.writer.update(
                max_steps=int(steps) if math.isfinite(steps) else None,
                model={"name": type(pl_module).__name__, "parameters": count},
                device=str(pl_module.device),
                ranks=trainer.world_size,
            )
            run.worked()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the step, and do what was asked."""
        step = trainer.global_step
        if step == self._step or self._logger is None:  # gradients are accumulated
            return
        self._step = step
        if run := self._logger.opened():
            run.step(step)
        if trainer.world_size == 1 or step % RANKS_EVERY == 0 or self._paused:
            self._obey(trainer, step)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """An evaluation is no part of the next step."""
        if self._logger and (run := self._logger.opened()):
            run.worked()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Record the end with its reason, before the logger hears that there was one."""
        if self._logger:
            self._logger.end(exception)

    def _obey(self, trainer: Any, step: int) -> None:
        assert self._logger is not None
        run = self._logger.opened()

        def look() -> Wish:
            return run.steering.look(step, TURN) if run else NOTHING

        while True:
            wish = agree(look, lambda wish: trainer.strategy.broadcast(wish, src=0))
            if wish.save:
                self._save(trainer, step, run)
            trainer.should_stop = trainer.should_stop or wish.stop
            self._paused = wish.paused
            if not wish.paused:
                return

    def _save(self, trainer: Any, step: int, run: OpenRun | None) -> None:
        """Save on every rank, into a folder that rank 0 makes and puts in place."""
        folder = None
        if run:
            try:
                folder = place_for(run.writer.run, step)
            except OSError as error:
                run.not_saved(error)
        folder = trainer.strategy.broadcast(folder, src=0)
        if folder is None:
            return
        trainer.save_checkpoint(folder / _FILE)
        if run:
            try:
                name, count = put_in_place(run.writer.run, step, folder)
            except OSError as error:
                run.not_saved(error)
            else:
                run.saved(step, name, bytes=count)


def _is_rank_zero() -> bool:
    from lightning.pytorch.utilities import rank_zero_only

    return bool(rank_zero_only.rank == 0)


@functools.cache
def _class(name: str) -> type:
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger

    ours, theirs = {"RunLogger": (LoggedRun, Logger), "RunCallback": (ObeyingRun, Callback)}[name]
    return type(name, (ours, theirs), {"__doc__": ours.__doc__})


def __getattr__(name: str) -> Any:
    """`RunLogger` and `RunCallback`, whose base classes are in Lightning."""
    if name in ("RunLogger", "RunCallback"):
        return _class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
