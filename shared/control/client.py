"""Asking a run to do something and waiting for the answer.

A request is a file in `control/`; the answer is an event with its id. A trainer answers while it
lives; a daemon answers for a run without a trainer.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.control.daemons import watching
from shared.control.requests import path_of, submit
from shared.control.waiting import Patience, wait_for
from shared.errors import RunError
from shared.ownership.health import observe
from shared.run.directory import RunDirectory
from shared.run.record_lines import parse_lines
from shared.run.records import ENDED_STATUSES, RunState
from shared.run.tail import Tailer
from shared.text import one_line

_FORBIDDEN = {errno.EACCES, errno.EPERM}
_LONGEST = 2000  # characters of an answer


@dataclass(frozen=True)
class Answer:
    """What a trainer or daemon answered. `message` is one line without control characters."""

    ok: bool
    message: str


@dataclass(frozen=True)
class Look:
    """One look at a run that was asked: `answer` is None while there is none."""

    answer: Answer | None
    state: RunState
    alive: bool


def ask(
    run: RunDirectory,
    action: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    label: str = "",
    patience: Patience | None = None,
) -> Asked:
    """Leave a request for `run`. The timeout of `patience` starts now.

    `label` names the run in error messages. Raises RunError when the request cannot be written.
    """
    answers = Tailer(run.events_path)
    while answers.read().more:
        pass
    try:
        request_id = submit(run.control, action, arguments)
    except OSError as error:
        hint = "; only the user who trains may do that" if error.errno in _FORBIDDEN else ""
        raise RunError(
            f"Cannot leave a request in {one_line(run.control)}: {error.strerror}{hint}."
        ) from error
    return Asked(
        run, request_id, answers, label or f"Run {one_line(run.run_id)}", patience or Patience()
    )


class Asked:
    """A request that was left for a run, and the wait for its answer."""

    def __init__(
        self, run: RunDirectory, request_id: str, answers: Tailer, label: str, patience: Patience
    ) -> None:
        """`answers` has read the events up to the moment of the request."""
        self.request_id = request_id
        self._run = run
        self._answers = answers
        self._label = label
        self._patience = patience
        self._began = patience.clock()
        self._was_at_work = (run.read_state() or RunState()).status not in ENDED_STATUSES

    def wait(self, *, by_daemon: bool = False, withdraw: bool = False) -> Answer | None:
        """The answer; None when the pause stopped the wait.

        `by_daemon`: a daemon may answer if the trainer ends. `withdraw`: take the request back if
        nobody answers. Raises RunError when nobody answers in time or the run has ended.
        """
        for look in self.looks(by_daemon=by_daemon, withdraw=withdraw):
            if look.answer is not None:
                return look.answer
        return None

    def looks(self, *, by_daemon: bool = False, withdraw: bool = False) -> Iterator[Look]:
        """Look again and again. Ends with the answer, or when the pause stopped the wait.

        Raises RunError like `wait`.
        """
        patience = self._patience
        gone_since: float | None = None
        last = False
        while True:
            # The state first: whoever ends has answered before.
            state = self._run.read_state() or RunState()
            alive = observe(self._run, state).alive
            answer = self._read()
            yield Look(answer, state, alive)
            if answer is not None:
                return
            now = patience.clock()
            if last:
                raise self._unanswered("ended without an answer", withdraw=withdraw)
            if now - self._began >= patience.timeout:
                why = f"has not answered within {patience.timeout:.0f} s"
                raise self._unanswered(why, withdraw=withdraw)
            if not by_daemon:
                ended = self._was_at_work and state.status in ENDED_STATUSES
                last = ended or not alive  # one more look: it may have answered just now
            elif alive or watching(self._run.path.parent):
                gone_since = None
            else:
                gone_since = now if gone_since is None else gone_since
                last = now - gone_since > patience.gone
            if patience.pause(patience.look):
                return

    def withdraw(self) -> None:
        """Take the request back, so that nobody acts on it later."""
        with contextlib.suppress(OSError):
            path_of(self._run.control, self.request_id).unlink()

    def _unanswered(self, why: str, *, withdraw: bool) -> RunError:
        if withdraw:
            self.withdraw()
            return RunError(f"{self._label} {why}; the request was withdrawn. Try again.")
        return RunError(f"{self._label} {why}; the request stays.")

    def _read(self) -> Answer | None:
        for record in parse_lines(self._answers.read().lines)[0]:
            if record.get("event") == "answer" and record.get("request") == self.request_id:
                message = one_line(record.get("message") or "done", _LONGEST)
                return Answer(record.get("ok") is True, message)
        return None


def wait_until_ended(run: RunDirectory, patience: Patience) -> RunState | None:
    """The state of the run once its trainer has saved and gone; None if that takes too long."""

    def ended() -> RunState | None:
        state = run.read_state() or RunState()
        return None if observe(run, state).alive else state

    return wait_for(ended, patience)
