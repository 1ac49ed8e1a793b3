"""The run of one training that another program does: its records, its requests and its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from shared.bridges.guard import Guard
from shared.bridges.steering import Steering
from shared.json_text import is_number
from shared.run.ending import Ending, ending_of
from shared.run.numbers import plain
from shared.run.records import RECORD_KEYS
from shared.run_writer import RunWriter
from shared.text import one_line


def numbers_of(
    values: Mapping[str, Any] | None, names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The numbers among `values`, also those in one-element tensors, renamed by `names`."""
    names = names or {}
    found = ((names.get(str(key), str(key)), plain(value)) for key, value in (values or {}).items())
    return {key: value for key, value in found if is_number(value)}


class OpenRun:
    """Owns a `RunWriter`. `can_save` and `before_prune` are those of `Steering`.

    `untold` and `leave` are those of `Guard`: how the run ended if the program exits without having
    called `finish`, and what is to be done then.
    """

    def __init__(
        self,
        writer: RunWriter,
        *,
        can_save: bool = True,
        can_stop: bool = True,
        before_prune: Callable[[], Collection[str]] = tuple,
        untold: Ending | None = None,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        self.writer = writer
        self.steering = Steering(
            writer, can_save=can_save, can_stop=can_stop, before_prune=before_prune
        )
        self._guard = Guard(writer, untold, leave)
        self._last = time.perf_counter()
        self.newest = 0  # the newest step
        writer.set_status("running")

    def step(self, step: int, **metrics: Any) -> None:
        """A step is finished; it took the time since the last one, or since `worked`."""
        now = time.perf_counter()
        self.log(step, {**metrics, "step_time_ms": (now - self._last) * 1000})
        self._last = now

    def log(self, step: int, numbers: Mapping[str, Any]) -> None:
        """Record `numbers` of a step; the run does not go back when it is an older one."""
        self.writer.log(step, **{key: v for key, v in numbers.items() if key not in _RESERVED})
        if step < self.newest:
            self.writer.update(current_step=self.newest)
        self.newest = max(self.newest, step)

    def worked(self) -> None:
        """Work other than a step is done, such as an evaluation."""
        self.writer.progress()
        self._last = time.perf_counter()

    def saved(self, step: int, name: str, **facts: Any) -> None:
        """A checkpoint is in place; with `facts`, such as its `bytes`, that is an event."""
        if facts:
            self.writer.event("checkpoint_saved", name=name, **facts)
        self.steering.saved(step, name)
        self.worked()

    def not_saved(self, error: Exception) -> None:
        """A checkpoint could not be written; the training continues."""
        message = one_line(f"{type(error).__name__}: {error}", 300)
        self.writer.event("checkpoint_failed", message=message)
        self.steering.not_saved(message)

    def finish(self, error: BaseException | None = None) -> None:
        """The training has ended, by `error` if there is one."""
        self.steering.not_saved("the training ended without another checkpoint")
        self.steering.close()
        self._guard.release()
        ending = ending_of(error)
        if error is None and self.steering.stop_reason:
            ending = Ending("cancelled", 0, self.steering.stop_reason)
        self.writer.finish(ending.status, ending.code, ending.reason)


#: Keys of a record that are the run's own.
_RESERVED = RECORD_KEYS | {"self"}
