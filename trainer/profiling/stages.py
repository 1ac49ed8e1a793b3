"""The stages of the loop, timed by the host's clock and marked in a trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, get_args

from trainer.loop.hooks import Stage

if TYPE_CHECKING:
    from torch.profiler import record_function

#: In the order of a step.
STAGES: tuple[Stage, ...] = get_args(Stage)
#: How the spans are named in a trace.
PREFIX = "trainer: "


class StageTimer:
    """Receives `Hooks.enter`: a stage lasts until the next one is entered.

    `seconds` are those of the host since `restart`. With `marked`, each stage is a span of torch's
    profiler too.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.marked = False
        self._clock = clock
        self._stage: Stage = "other"
        self._since = clock()
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._span: record_function | None = None

    def enter(self, stage: Stage) -> None:
        """The loop turns to `stage`."""
        now = self._clock()
        self._seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now
        self.end_span()
        if self.marked:
            from torch.profiler import record_function

            self._span = record_function(PREFIX + stage)
            self._span.__enter__()

    def restart(self) -> None:
        """Count from now on."""
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._since = self._clock()

    def seconds(self) -> Mapping[Stage, float]:
        """Of every stage since `restart`."""
        self.enter(self._stage)
        return dict(self._seconds)

    def end_span(self) -> None:
        """End the present span, if there is one."""
        if self._span is not None:
            self._span.__exit__(None, None, None)
            self._span = None
