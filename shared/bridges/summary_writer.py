"""A look-alike of TensorBoard's SummaryWriter that writes our run directory.

`from shared.bridges.summary_writer import SummaryWriter` is the only line that changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shared.bridges.configuration import config_of
from shared.bridges.open_run import OpenRun, numbers_of
from shared.bridges.steering import NOTHING, Wish
from shared.run.ending import Ending
from shared.run_writer import RunWriter
from shared.text import one_line

_LONGEST_TEXT = 2000  # characters in an event


class SummaryWriter:
    """Writes scalars, hyperparameters and texts; anything else is named in the log, and dropped.

    `log_dir` is the folder of the runs and the name of this one: `runs/my-model`. The values of
    one step are one record, which is written when another step begins, or by `flush`. `rank` is
    that of this process, by default the one that torchrun has set; only rank 0 writes.
    """

    def __init__(
        self,
        log_dir: str | Path | None = None,
        comment: str = "",
        *ignored: Any,
        rank: int | None = None,
        **ignored_too: Any,
    ) -> None:
        path = (Path(log_dir) if log_dir else Path("runs") / f"run{comment}").absolute()
        rank = int(os.environ.get("RANK") or 0) if rank is None else rank
        self._ranks = int(os.environ.get("WORLD_SIZE") or 1)
        self._run: OpenRun | None = None
        if rank == 0:
            writer = RunWriter(path.parent, path.name)
            self._run = OpenRun(
                writer, can_save=False, can_stop=False, untold=Ending("completed"), leave=self.flush
            )
        self.log_dir = str(self._run.writer.run.path if self._run else path)
        self._step = 0
        self._values: dict[str, Any] = {}
        self._refused: set[str] = set()

    @property
    def writer(self) -> RunWriter | None:
        """The run; None on other ranks, and after `close`."""
        return self._run.writer if self._run else None

    def get_logdir(self) -> str:
        """The run directory."""
        return self.log_dir

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        **ignored: Any,
    ) -> None:
        """One value of a step; without a step, of the newest."""
        self._add({tag: scalar_value}, global_step)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Several values, named `main_tag/…`."""
        self._add({f"{main_tag}/{k}": v for k, v in tag_scalar_dict.items()}, global_step)

    def add_hparams(
        self,
        hparam_dict: Mapping[str, Any],
        metric_dict: Mapping[str, Any],
        *ignored: Any,
        global_step: int | None = None,
        **ignored_too: Any,
    ) -> None:
        """The configuration, and the values it led to."""
        if self._run:
            config = config_of("SummaryWriter", hyperparameters=dict(hparam_dict))
            self._run.writer.write_config(config)
        self._add(metric_dict, global_step)

    def add_text(
        self,
        tag: str,
        text_string: str,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """A text, as an event."""
        if self._run:
            text = str(text_string)[:_LONGEST_TEXT]
            self._run.writer.event("text", tag=one_line(tag), message=text)

    def asked(self, step: int) -> Wish:
        """What the run was asked for by the end of `step`; call it after every step.

        During a pause it waits.
        """
        if self._run is None:
            return NOTHING
        self._run.steering.can_save = self._run.steering.can_stop = True
        if self._run.writer.waiting_requests:
            self.flush()
        return self._run.steering.look(step)

    def saved(self, step: int, name: str) -> None:
        """The program has saved the checkpoint `name`, which answers the request for it."""
        if self._run:
            self._run.writer.event("checkpoint_saved", name=name)
            self._run.saved(step, name)

    def flush(self) -> None:
        """Write the values of the current step."""
        values, self._values = self._values, {}
        if self._run and values:
            if self._step > self._run.newest:
                self._run.step(self._step, **values)
            else:
                self._run.log(self._step, values)
            if not self._run.steering.can_stop and self._ranks == 1:
                self._run.steering.look(self._step)  # a pause waits here
            elif not self._run.steering.can_stop:
                self._run.steering.refuse_all()

    def close(self) -> None:
        """Record the end."""
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        self.flush()
        if self._run:
            self._run.finish(error)
        self._run = None

    def _add(self, values: Mapping[str, Any], step: int | None) -> None:
        at = self._step if step is None else int(step)
        if at != self._step or not self._values.keys().isdisjoint(values):
            self.flush()
        self._step = at
        self._values.update(numbers_of(values))

    def __getattr__(self, name: str) -> Callable[..., None]:
        """The other methods, such as `add_image`: what they are given is not recorded."""
        if not name.startswith("add_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

        def refuse(*arguments: Any, **named: Any) -> None:
            if self._run and name not in self._refused:
                self._refused.add(name)
                self._run.writer.say(f"[WARN] {name} is not recorded in a run directory")

        return refuse

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(error)
