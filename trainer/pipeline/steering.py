"""Requests and signals to a pipeline: they reach the stage that is at work."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shared.control.client import Look, ask
from shared.control.requests import Request
from shared.control.waiting import Patience
from shared.errors import ExitCode, RunError
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from shared.text import one_line
from trainer.loop.signals import StopSignals
from trainer.pipeline.children import Child, end_child, signal_child

GRACE = 10.0  # seconds that a stage without checkpoints gets to end by itself


class Stopped(Exception):  # noqa: N818  (it is no error: somebody asked for it)
    """The pipeline ends before its last stage."""

    def __init__(self, status: str, code: ExitCode, reason: str) -> None:
        super().__init__(reason)
        self.status, self.code, self.reason = status, code, reason


@dataclass
class _Relayed:
    """A request that was passed on to the run of a stage, and the wait for its answer."""

    request: Request
    looks: Iterator[Look]


class Steering:
    """Serves what arrives for the pipeline.

    `look` is called again and again while a child works, or while the pipeline is paused.
    """

    def __init__(
        self,
        writer: RunWriter,
        signals: StopSignals,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._signals = signals
        self._clock = clock
        self._relayed: list[_Relayed] = []
        self._stop: Stopped | None = None
        self._kill_at: float | None = None
        #: A pipeline that a daemon starts again after it was paused waits for `continue`.
        self.paused = writer.state.supervised and writer.state.paused

    @property
    def stop(self) -> Stopped | None:
        """What ends the pipeline as soon as its child has ended."""
        return self._stop

    def look(self, child: Child | None = None, run: RunDirectory | None = None) -> None:
        """Act on what has arrived. `child` is at work, and trains `run` if it trains."""
        if self._signals.received and (self._stop is None or self._stop.code != ExitCode.REQUEUE):
            reason = f"{self._signals.received} received"
            self._stop = Stopped("preempted", ExitCode.REQUEUE, reason)
            self._end(child, run)
        for request in self._writer.take_requests():
            self._serve(request, child, run)
        for relayed in list(self._relayed):
            self._answer(relayed)
        if run is not None and self._stop is None:
            self._follow(run)
        if self._kill_at is not None and self._clock() >= self._kill_at and child is not None:
            end_child(child)

    def ended(self) -> None:
        """The child has ended: what it has not answered, it will not answer any more."""
        self._kill_at = None
        for relayed in list(self._relayed):
            self._answer(relayed)

    def wait_while_paused(self, pause: Callable[[], None]) -> None:
        """Return when the pipeline is continued; raises Stopped. `pause` waits for a moment."""
        if self.paused:
            self._writer.set_status("paused")
            self._writer.say("[INFO] Paused; `trainer continue` goes on")
        while self.paused and self._stop is None:
            self.look()
            pause()
        self.check()

    def check(self) -> None:
        """Raise Stopped when the pipeline was asked to end."""
        if self._stop is not None:
            raise self._stop

    # -- one request ---------------------------------------------------------------------

    def _serve(self, request: Request, child: Child | None, run: RunDirectory | None) -> None:
        who = one_line(request.asked_by, 80)
        if request.action == "stop":
            phase = self._writer.state.current_phase
            self._stop = Stopped("cancelled", ExitCode.OK, f"stopped in {phase} by {who}")
            self._writer.answer(request, ok=True, message=f"stopping in stage {phase}")
            self._writer.update(paused=False)
            self.paused = False
            if run is not None:
                self._relay(Request("", "stop", {}, request.asked_by, request.path), run)
            self._end(child, run, relayed=run is not None)
        elif request.action in ("pause", "resume"):
            self._pause_or_continue(request, child, run)
        elif run is not None:
            self._relay(request, run)
        else:
            self._writer.answer(
                request,
                ok=False,
                message=f"stage {self._writer.state.current_phase} has no run to "
                f"{one_line(request.action, 40)}",
            )

    def _pause_or_continue(
        self, request: Request, child: Child | None, run: RunDirectory | None
    ) -> None:
        if run is not None:  # whether it pauses is seen in its state
            self._relay(request, run)
            return
        pausing = request.action == "pause"
        if pausing == self.paused:
            message = f"the pipeline is {'already' if pausing else 'not'} paused"
            self._writer.answer(request, ok=False, message=message)
            return
        if child is not None:
            signal_child(child, signal.SIGSTOP if pausing else signal.SIGCONT, group=True)
        self._show_paused(pausing, f" on request of {one_line(request.asked_by, 80)}")
        self._writer.answer(request, ok=True, message="paused" if pausing else "continued")

    def _follow(self, run: RunDirectory) -> None:
        """Be paused while the run of the stage is."""
        state = run.read_state()
        if state is not None and state.status in ("running", "paused"):
            paused = state.status == "paused"
            if paused != self.paused:
                self._show_paused(paused, "")

    def _show_paused(self, paused: bool, why: str) -> None:
        self.paused = paused
        self._writer.update(paused=paused)
        self._writer.set_status("paused" if paused else "running")
        self._writer.say(f"[INFO] {'Paused' if paused else 'Continued'}{why}")

    def _relay(self, request: Request, run: RunDirectory) -> None:
        """Ask the run of the stage the same."""
        try:
            asked = ask(run, request.action, request.arguments, patience=Patience(pause=_no_pause))
        except RunError as error:
            self._reply(request, ok=False, message=str(error))
            return
        self._relayed.append(_Relayed(request, asked.looks(withdraw=True)))

    def _answer(self, relayed: _Relayed) -> None:
        """Pass an answer back once there is one."""
        try:
            look = next(relayed.looks, None)
        except RunError as error:
            self._relayed.remove(relayed)
            self._reply(relayed.request, ok=False, message=str(error))
            return
        if look is None:
            self._relayed.remove(relayed)
        elif look.answer is not None:
            self._relayed.remove(relayed)
            self._reply(relayed.request, ok=look.answer.ok, message=look.answer.message)

    def _reply(self, request: Request, *, ok: bool, message: str) -> None:
        if request.request_id:  # the pipeline's own needs no answer
            self._writer.answer(request, ok=ok, message=message)

    def _end(self, child: Child | None, run: RunDirectory | None, *, relayed: bool = False) -> None:
        """Let the child end: a training saves first, and anything else gets a moment."""
        if child is None:
            return
        if run is None:
            self._kill_at = self._clock() + GRACE
            signal_child(child, signal.SIGTERM, group=True)
            signal_child(child, signal.SIGCONT, group=True)
        elif not relayed:
            signal_child(child, signal.SIGTERM)


def _no_pause(_seconds: float) -> bool:
    return False
