"""Keras writes our run directory: `model.fit(…, callbacks=[RunCallback("runs", "my-model")])`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.bridges.configuration import config_of
from shared.bridges.open_run import OpenRun, numbers_of
from shared.bridges.saving import place_for, put_in_place
from shared.run_writer import RunWriter

if TYPE_CHECKING:
    RunCallback: Any

_FILE = "model.keras"


class FittedRun:
    """What `RunCallback` does: one run per `fit`."""

    model: Any
    params: Mapping[str, Any] | None

    def __init__(self, runs_dir: str | Path = "runs", name: str = "keras") -> None:
        super().__init__()
        self._runs_dir = Path(runs_dir).absolute()
        self._name = name
        self._run: OpenRun | None = None
        self._before = 0  # steps in the epochs before
        self._step = 0

    @property
    def writer(self) -> RunWriter | None:
        """The run, while it is open."""
        return self._run.writer if self._run else None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Open the run."""
        params = dict(self.params or {})
        epochs, steps = params.get("epochs"), params.get("steps")
        optimizer = getattr(self.model, "optimizer", None)
        config = config_of(
            "keras", fit=params, optimizer=optimizer.get_config() if optimizer else None
        )
        if self._run:  # the last fit ended by an exception that the program has survived
            self._run.finish(RuntimeError("another fit began before the end"))
        self._before = self._step = 0
        self._run = OpenRun(
            RunWriter(
                self._runs_dir,
                self._name,
                config=config,
                max_steps=epochs * steps if epochs and steps else None,
                model={"name": self.model.name, "parameters": self.model.count_params()},
            )
        )

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Record the step, and do what was asked."""
        if self._run is None:
            return
        self._step = self._before + batch + 1
        self._run.step(self._step, **numbers_of(logs))
        self._obey(self._run)

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """An evaluation is no part of the next step."""
        if self._run:
            self._run.worked()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Record the validation, and the means of the epoch under names of their own."""
        self._before = self._step
        if self._run is None or not logs:
            return
        found = numbers_of(logs)
        measured = {key: value for key, value in found.items() if key.startswith("val_")}
        means = {f"epoch_{k}": value for k, value in found.items() if k not in measured}
        self._run.log(self._step, {**measured, **means, "epoch": epoch + 1})
        if measured:
            self._run.writer.event("evaluated", **measured)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Record the end."""
        if self._run:
            self._run.finish()
        self._run = None

    def _obey(self, run: OpenRun) -> None:
        while True:
            wish = run.steering.look(self._step)
            if wish.save:
                self._save(run)
            if wish.stop:
                self.model.stop_training = True
            if not wish.paused:
                return

    def _save(self, run: OpenRun) -> None:
        try:
            folder = place_for(run.writer.run, self._step)
            self.model.save(folder / _FILE)
            name, count = put_in_place(run.writer.run, self._step, folder)
        except OSError as error:
            run.not_saved(error)
        else:
            run.saved(self._step, name, bytes=count)


@functools.cache
def _callback() -> type:
    from keras.callbacks import Callback

    return type("RunCallback", (FittedRun, Callback), {"__doc__": FittedRun.__doc__})


def __getattr__(name: str) -> Any:
    """`RunCallback`, whose base class is in Keras."""
    if name == "RunCallback":
        return _callback()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
