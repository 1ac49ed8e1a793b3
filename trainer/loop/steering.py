"""Requests and signals, handled between two steps: stop, checkpoint, pause, continue."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from shared.control.requests import Request, served_by
from shared.errors import ExitCode, RunError, UserError
from shared.hub.requests import RequestedUploads
from shared.run_writer import RunWriter
from shared.text import one_line
from trainer.loop.keeper import CheckpointKeeper
from trainer.loop.signals import StopSignals

PAUSE_POLL = 0.1  # seconds between checks for requests while paused


@dataclass(frozen=True)
class Stop:
    """Why the loop ends before its last step: status, exit code and reason of the run."""

    status: str
    code: ExitCode
    reason: str


class Steering:
    """Answers the requests to a running loop.

    `save` saves the current step; `check` is called regularly during a pause and may raise.
    """

    def __init__(
        self,
        writer: RunWriter,
        signals: StopSignals,
        keeper: CheckpointKeeper,
        save: Callable[[], None],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._writer = writer
        self._signals = signals
        self._keeper = keeper
        self._save = save
        self._check = check
        #: Paused when it died and restarted by a daemon: nobody has continued it yet.
        self._still_paused = writer.state.supervised and writer.state.paused
        self._started_at = time.time()
        self._uploads = RequestedUploads()
        self._uploading: list[Request] = []
        self._requests: deque[Request] = deque()

    @property
    def has_requests(self) -> bool:
        """Whether `interruption` has something to do. Makes no system call."""
        waiting = self._requests or self._uploading or self._still_paused
        return bool(waiting or self._writer.waiting_requests)

    def interruption(self, step: int) -> Stop | None:
        """Handle what has arrived. Returns a Stop if the loop must end after `step`.

        During a pause it does not return.
        """
        if self._signals.received:
            reason = f"{self._signals.received} received"
            return Stop("preempted", ExitCode.REQUEUE, reason)
        if self._still_paused:
            self._still_paused = False
            self._writer.say("[INFO] Still paused; `trainer continue` resumes training")
            return self._wait_paused(step)
        while request := self._next_request():
            stop = self._serve(request, step)
            if stop:
                return stop
        return None

    def _next_request(self) -> Request | None:
        if self._uploading:
            self._answer_uploads()
        # One queue for the loop and the pause: requests that came with the pause are handled in it.
        self._requests.extend(self._writer.take_requests())
        return self._requests.popleft() if self._requests else None

    def _serve(self, request: Request, step: int) -> Stop | None:
        writer = self._writer
        who = one_line(request.asked_by, 80)
        if request.action == "stop":
            writer.answer(request, ok=True, message=f"stopping after step {step}")
            writer.update(paused=False)
            return Stop("cancelled", ExitCode.OK, f"stopped at step {step} on request of {who}")
        if request.action == "pause":
            return self._pause(request, step, who)
        if request.action == "checkpoint":
            try:
                self._save()
                writer.answer(request, ok=True, message=f"saved step_{step}")
            except RunError as error:
                writer.answer(request, ok=False, message=str(error))
        elif request.action == "prune":
            self._prune(request)
        elif request.action == "upload":
            self._uploading.append(request)
        elif request.action == "uploaded":
            self._note_upload(request)
        elif request.action == "evaluated":
            self._note_evaluation(request)
        elif request.action == "resume":
            # Sent while no trainer was running: this attempt is the answer.
            ours = request.asked_at < self._started_at
            running = f"running again, attempt {writer.state.attempt}"
            writer.answer(request, ok=ours, message=running if ours else "the run is not paused")
        else:
            known = ", ".join(served_by("trainer"))
            asked = one_line(request.action, 40)
            message = f"unknown action {asked!r}; a trainer answers {known}"
            writer.answer(request, ok=False, message=message)
        return None

    def _prune(self, request: Request) -> None:
        """Remove the requested checkpoints, except those that a running save relies on."""
        from shared.checkpoints.prune import serve_prune

        self._keeper.wait()
        try:
            message = serve_prune(
                self._writer.run,
                request.arguments,
                self._writer.event,
                protected=self._keeper.in_use(),
            )
            self._writer.answer(request, ok=True, message=message)
        except (UserError, OSError) as error:
            self._writer.answer(request, ok=False, message=str(error))

    def _answer_uploads(self) -> None:
        for request in list(self._uploading):
            answer = self._uploads.answer(self._writer.run, request)
            if answer is not None:
                self._uploading.remove(request)
                ok, message = answer
                self._writer.answer(request, ok=ok, message=message)

    def _note_upload(self, request: Request) -> None:
        """Record an upload of a checkpoint of this run."""
        from shared.hub.record import serve_uploaded

        writer = self._writer
        try:
            message = serve_uploaded(request.arguments, writer.event, writer.update)
            writer.answer(request, ok=True, message=message)
        except UserError as error:
            writer.answer(request, ok=False, message=str(error))

    def _note_evaluation(self, request: Request) -> None:
        """Record an evaluation of a checkpoint of this run."""
        from shared.checkpoints.evaluation_record import serve_evaluated

        try:
            message = serve_evaluated(request.arguments, self._writer.event)
            self._writer.answer(request, ok=True, message=message)
        except UserError as error:
            self._writer.answer(request, ok=False, message=str(error))

    def close(self) -> None:
        """Abandon running uploads."""
        self._uploads.stop()

    def _pause(self, asked: Request, step: int, who: str) -> Stop | None:
        """Wait until continued. Handles other requests and signals meanwhile."""
        writer = self._writer
        self._keeper.wait()
        writer.update(paused=True)
        writer.set_status("paused")
        writer.answer(asked, ok=True, message=f"paused at step {step}")
        writer.say(f"[INFO] Paused at step {step} on request of {who}")
        return self._wait_paused(step)

    def _wait_paused(self, step: int) -> Stop | None:
        writer = self._writer
        writer.set_status("paused")
        while True:
            self._check()
            if self._signals.received:
                return self.interruption(step)
            while request := self._next_request():
                if request.action == "resume":
                    writer.update(paused=False)
                    writer.set_status("running")
                    writer.answer(request, ok=True, message="continued")
                    writer.say("[INFO] Continued")
                    return None
                if request.action == "pause":
                    writer.answer(request, ok=False, message="the run is already paused")
                    continue
                stop = self._serve(request, step)
                if stop:
                    return stop
            time.sleep(PAUSE_POLL)
