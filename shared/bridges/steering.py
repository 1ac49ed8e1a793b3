"""Requests to a run that another program trains, served between two of its steps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from shared.checkpoints.evaluation_record import serve_evaluated
from shared.checkpoints.prune import serve_prune
from shared.control.requests import Request, served_by
from shared.control.waiting import Pause, sleep
from shared.errors import UserError
from shared.hub.record import serve_uploaded
from shared.hub.requests import RequestedUploads
from shared.run_writer import RunWriter
from shared.text import one_line

PAUSE_POLL = 0.1  # seconds between checks for requests while paused


@dataclass(frozen=True)
class Wish:
    """What the program should do after this step. `paused`: call `look` again before the next."""

    save: bool = False
    stop: bool = False
    paused: bool = False


NOTHING = Wish()
_HINT = "; its script can do so with `asked` (docs/bridges.md)"


class Steering:
    """Answers requests. Saving is the program's work: it reports it with `saved`.

    `can_save` and `can_stop`: whether it does so on request. `before_prune` is called before
    checkpoints are removed and returns the names that must stay.
    """

    def __init__(
        self,
        writer: RunWriter,
        *,
        can_save: bool = True,
        can_stop: bool = True,
        before_prune: Callable[[], Collection[str]] = tuple,
        pause: Pause = sleep,
    ) -> None:
        self._writer = writer
        self.can_save = can_save
        self.can_stop = can_stop
        self._before_prune = before_prune
        self._pause = pause
        self._started_at = time.time()
        self._requests: deque[Request] = deque()
        self._saving: list[Request] = []
        self._saving_since = -1
        self._saved = (-1, "")  # the step of the last checkpoint, and its name
        self._uploads = RequestedUploads()
        self._uploading: list[Request] = []
        self._step = 0
        self._paused = False
        #: Why the run ends before its last step; empty while nobody asked for that.
        self.stop_reason = ""

    def look(self, step: int, patience: float | None = None) -> Wish:
        """Serve what has arrived by the end of `step`. Makes no system call if nothing has.

        While the run is paused this waits, `patience` seconds at most.
        """
        if not (
            self._paused
            or self._requests
            or self._saving
            or self._uploading
            or self._writer.waiting_requests
        ):
            return Wish(stop=True) if self.stop_reason else NOTHING
        self._step = step
        if self._saving and self._saving_since < step:
            self.not_saved(f"no checkpoint was saved after step {self._saving_since}")
        began = time.monotonic()
        while True:
            self._serve_all()
            waits = self._paused and not self._saving and not self.stop_reason
            over = patience is not None and time.monotonic() - began >= patience
            if not waits or over or self._pause(PAUSE_POLL):
                break
        stop = bool(self.stop_reason)
        save = self.can_save and self._saved[0] != step and (stop or bool(self._saving))
        return Wish(save, stop, self._paused)

    def saved(self, step: int, name: str) -> None:
        """The program has saved the checkpoint `name` of `step`."""
        self._saved = (step, name)
        for request in self._saving:
            self._writer.answer(request, ok=True, message=f"saved {name}")
        self._saving.clear()

    def not_saved(self, why: str) -> None:
        """The checkpoint that was asked for does not come."""
        for request in self._saving:
            self._writer.answer(request, ok=False, message=why)
        self._saving.clear()

    def refuse_all(self) -> None:
        """Refuse what has arrived: a pause of one rank alone would end in a timeout."""
        for request in self._writer.take_requests():
            message = f"the ranks of this program do not look for requests{_HINT}"
            self._writer.answer(request, ok=False, message=message)

    def close(self) -> None:
        """Abandon running uploads."""
        self._uploads.stop()

    def _serve_all(self) -> None:
        for request in list(self._uploading):
            answer = self._uploads.answer(self._writer.run, request)
            if answer is not None:
                self._uploading.remove(request)
                self._writer.answer(request, ok=answer[0], message=answer[1])
        self._requests.extend(self._writer.take_requests())
        while self._requests and not self.stop_reason:
            self._serve(self._requests.popleft())

    def _serve(self, request: Request) -> None:
        match request.action:
            case "stop":
                self._stop(request)
            case "pause":
                self._begin_pause(request)
            case "resume":
                self._continue(request)
            case "checkpoint":
                self._save(request)
            case "upload":
                self._uploading.append(request)
            case "prune" | "uploaded" | "evaluated":
                try:
                    self._writer.answer(request, ok=True, message=self._record(request))
                except (UserError, OSError) as error:
                    self._writer.answer(request, ok=False, message=str(error))
            case _:
                known = ", ".join(served_by("trainer"))
                asked = one_line(request.action, 40)
                message = f"unknown action {asked!r}; a trainer answers {known}"
                self._writer.answer(request, ok=False, message=message)

    def _stop(self, request: Request) -> None:
        if not self.can_stop:
            message = f"this program does not stop on request{_HINT}"
            self._writer.answer(request, ok=False, message=message)
            return
        who = one_line(request.asked_by, 80)
        self._paused = False
        self._writer.update(paused=False)
        self.stop_reason = f"stopped at step {self._step} on request of {who}"
        self._writer.answer(request, ok=True, message=f"stopping after step {self._step}")

    def _begin_pause(self, request: Request) -> None:
        if self._paused:
            self._writer.answer(request, ok=False, message="the run is already paused")
            return
        self._paused = True
        self._writer.update(paused=True)
        self._writer.set_status("paused")
        self._writer.answer(request, ok=True, message=f"paused at step {self._step}")
        who = one_line(request.asked_by, 80)
        self._writer.say(f"[INFO] Paused at step {self._step} on request of {who}")

    def _continue(self, request: Request) -> None:
        if self._paused:
            self._paused = False
            self._writer.update(paused=False)
            self._writer.set_status("running")
            self._writer.answer(request, ok=True, message="continued")
            self._writer.say("[INFO] Continued")
            return
        # Sent while no trainer was running: this attempt is the answer.
        ours = request.asked_at < self._started_at
        running = f"running again, attempt {self._writer.state.attempt}"
        self._writer.answer(request, ok=ours, message=running if ours else "the run is not paused")

    def _save(self, request: Request) -> None:
        if not self.can_save:
            message = f"this program saves no checkpoint on request{_HINT}"
            self._writer.answer(request, ok=False, message=message)
        elif self._saved[0] == self._step:
            self._writer.answer(request, ok=True, message=f"{self._saved[1]} is saved already")
        else:
            self._saving.append(request)
            self._saving_since = self._step

    def _record(self, request: Request) -> str:
        """Do what a request about checkpoints asks; returns the answer."""
        writer = self._writer
        if request.action == "prune":
            protected = self._before_prune()
            return serve_prune(writer.run, request.arguments, writer.event, protected)
        if request.action == "uploaded":
            return serve_uploaded(request.arguments, writer.event, writer.update)
        return serve_evaluated(request.arguments, writer.event)
