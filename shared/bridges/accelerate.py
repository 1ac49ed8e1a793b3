"""accelerate writes our run directory: `Accelerator(log_with=RunTracker("runs", "my-model"))`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.bridges.configuration import config_of
from shared.bridges.open_run import OpenRun, numbers_of
from shared.bridges.ranks import TURN, agree, through_accelerate
from shared.bridges.steering import NOTHING, Wish
from shared.run.ending import Ending
from shared.run_writer import RunWriter

if TYPE_CHECKING:
    RunTracker: Any


class TrackedRun:
    """What `RunTracker` does, on the main process alone.

    `facts` are fields of the run's state, such as `max_steps`.
    """

    name = "train-monitor"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, runs_dir: str | Path = "runs", name: str = "accelerate", **facts: Any):
        super().__init__()
        self._runs_dir = Path(runs_dir).absolute()
        self._run_name = name
        self._facts = facts
        self._run: OpenRun | None = None

    @property
    def tracker(self) -> RunWriter | None:
        """The run; None on other processes than the main one."""
        return self._run.writer if self._run else None

    def start(self) -> None:
        """Open the run."""
        state = _state()
        if state.is_main_process:
            facts = {"ranks": state.num_processes, "device": str(state.device), **self._facts}
            self._run = OpenRun(
                RunWriter(self._runs_dir, self._run_name, **facts),
                can_save=False,
                can_stop=False,
                untold=Ending("completed"),
            )

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Write the configuration."""
        if self._run:
            self._run.writer.write_config(config_of("accelerate", settings=dict(values)))

    def log(self, values: Mapping[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Record values; without a step, those of the newest one."""
        if self._run is None:
            return
        at = self._run.newest if step is None else step
        numbers = numbers_of(values)
        if at > self._run.newest:
            self._run.step(at, **numbers)
        else:
            self._run.log(at, numbers)
        if self._run.steering.can_stop:
            return
        if _state().num_processes == 1:
            self._run.steering.look(at)  # a pause waits here
        else:
            self._run.steering.refuse_all()

    def asked(self, step: int) -> Wish:
        """What the run was asked for by the end of `step`, the same on every process: call it there
        after every step, on all of them. During a pause it waits.
        """
        state, run = _state(), self._run
        if run:
            run.steering.can_save = run.steering.can_stop = True
        if state.num_processes == 1:
            return run.steering.look(step) if run else NOTHING

        return agree(lambda: run.steering.look(step, TURN) if run else NOTHING, through_accelerate)

    def saved(self, step: int, name: str) -> None:
        """The program has saved the checkpoint `name`, which answers the request for it."""
        if self._run:
            self._run.writer.event("checkpoint_saved", name=name)
            self._run.saved(step, name)

    def finish(self) -> None:
        """Record the end."""
        if self._run:
            self._run.finish()


def _state() -> Any:
    from accelerate.state import PartialState

    return PartialState()


@functools.cache
def _tracker() -> type:
    from accelerate.tracking import GeneralTracker

    return type("RunTracker", (TrackedRun, GeneralTracker), {"__doc__": TrackedRun.__doc__})


def __getattr__(name: str) -> Any:
    """`RunTracker`, whose base class is in accelerate."""
    if name == "RunTracker":
        return _tracker()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
