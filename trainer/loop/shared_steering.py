"""Steering where several ranks train: one serves the requests, and all do the same thing."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import Any

from shared.errors import ExitCode, RunError, UserError
from trainer.distributed.group import Group, RankError
from trainer.loop.keeper import CheckpointKeeper
from trainer.loop.signals import StopSignals
from trainer.loop.steering import Steering, Stop


class SharedSteering:
    """Asks between two steps, in one exchange, whether any rank has something to say.

    If so, the rank that writes serves its requests, and tells the others what they have to do with
    it: save their part, stop, or go on.
    """

    def __init__(
        self,
        group: Group,
        signals: StopSignals,
        keeper: CheckpointKeeper,
        steering: Callable[[Callable[[], None]], Steering],
        *,
        save: Callable[[], None],
        settle: Callable[[], int],
    ) -> None:
        """`steering` makes the one that serves requests, from what saves the current step. `settle`
        records every step that was made, and returns the number of the last.
        """
        self._group = group
        self._signals = signals
        self._keeper = keeper
        self._save = save
        self._settle = settle
        self._steering = steering(save if group.alone else self._save_together)
        #: Whether a save that failed is to be tried again.
        self.retry = False
        if not group.writes:
            group.meanwhile = self._pass_on

    def look(self) -> None:
        """During a pause: whether another rank got a signal."""
        if self._signals.received is None:
            self._signals.received = self._group.raised_signal() or None

    def _pass_on(self) -> None:
        if self._signals.received is not None:
            self._group.raise_signal(self._signals.received)

    @property
    def is_asked(self) -> bool:
        """Whether this rank has something to say. Makes no system call."""
        return bool(self._signals.received or self._steering.has_requests)

    def interruption(self) -> Stop | None:
        """Handle what has arrived. Returns a Stop if the loop must end here, on all ranks.

        During a pause it does not return.
        """
        if self._group.alone:
            self.retry = self._keeper.retry_due()
            if not (self._signals.received or self._steering.has_requests):
                return None
            return self._steering.interruption(self._settle())
        received = self._signals.received
        number, asked, retry = self._group.agree(
            float(signal.Signals[received]) if received else 0.0,
            float(self._group.writes and self._steering.has_requests),
            float(self._group.writes and self._keeper.retry_due()),
        )
        self.retry = bool(retry)
        if not (number or asked):
            return None
        step = self._settle()
        if number:
            self._signals.received = signal.Signals(int(number)).name
            reason = f"{self._signals.received} received"
            return Stop("preempted", ExitCode.REQUEUE, reason)
        return self._lead(step) if self._group.writes else self._follow()

    def close(self) -> None:
        """Abandon running uploads."""
        self._steering.close()

    def _lead(self, step: int) -> Stop | None:
        try:
            stop = self._steering.interruption(step)
        except UserError as error:
            self._tell("fail", str(error), int(error.exit_code))
            raise
        if stop is None:
            self._tell("go on")
        else:
            self._tell("stop", stop.status, int(stop.code), stop.reason)
        return stop

    def _follow(self) -> Stop | None:
        while True:
            told: list[Any] = self._group.decided(list)
            order, *details = told
            if order == "save":
                with contextlib.suppress(RunError):  # the answer to the request tells it
                    self._save()
            elif order == "stop":
                status, code, reason = details
                return Stop(status, ExitCode(code), reason)
            elif order == "fail":
                raise RankError(*details)
            else:
                return None

    def _save_together(self) -> None:
        self._tell("save")
        self._save()

    def _tell(self, *order: object) -> None:
        self._group.decided(lambda: order)
