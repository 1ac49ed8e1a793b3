"""The host's side of actions: a closed list, each carried out in a thread, at most once.

Nothing that was begun ends with the link that asked for it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import UserError
from shared.json_text import Json
from shared.remote.journal import Entry, Journal, is_request_id
from shared.text import one_line

AT_ONCE = 0.3  # seconds that a request waits for its outcome, so that quick ones need no second one
MAX_RUNNING = 32  # of one watching program
_REMEMBERED = 256  # outcomes that are not kept in the journal
_MOST = 4 << 20  # bytes of a result
_PROGRESS = 0.5  # seconds between two lines of progress in the journal, at least
_LOOK = 0.5  # seconds between two looks whether it was cancelled


@dataclass(frozen=True)
class Call:
    """One request, as the code that carries it out is given it.

    `tell` reports progress; `cancelled` is set once somebody asks for its end.
    """

    run: str
    arguments: Json
    tell: Callable[[Json], None]
    cancelled: threading.Event


@dataclass(frozen=True)
class Act:
    """Something that the host does on request: `do` returns the result, or raises UserError.

    `changes`: it must not happen twice, so its outcome is kept in the journal.
    """

    do: Callable[[Call], Any]
    changes: bool = True


@dataclass
class _Job:
    """A request that was begun here, and its state as it is told."""

    state: Json
    entry: Entry | None
    ended: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    told_at: float = 0.0
    thread: threading.Thread | None = None


class Jobs:
    """Carries out `acts`, by name."""

    def __init__(self, acts: Mapping[str, Act], journal: Journal) -> None:
        self._acts, self._journal = acts, journal
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """What can be asked for."""
        return sorted(self._acts)

    def begin(self, head: Mapping[str, Any]) -> Json:
        """Begin a request unless it was begun before; its state, or an `error` for a wrong one."""
        request_id, name = head.get("id"), head.get("act")
        run, arguments = head.get("run"), head.get("arguments")
        act = self._acts.get(name) if isinstance(name, str) else None
        if act is None or not isinstance(name, str):
            return {"error": f"{one_line(name, 40)!r} is not among the actions of this host"}
        if not (is_request_id(request_id) and isinstance(run, str) and isinstance(arguments, dict)):
            return {"error": "an action needs an id, a run and arguments"}
        assert isinstance(request_id, str)
        if request_id in self._jobs:
            return self._state(request_id)
        if sum(not job.ended.is_set() for job in self._jobs.values()) >= MAX_RUNNING:
            return {"error": "too many actions are being carried out; try again"}
        begun: Json = {"state": "running", "act": name, "run": run}
        entry = None
        if act.changes:
            try:
                entry = self._journal.begin(request_id, begun)
            except UserError as error:
                return _refused(error)
            if entry is None:  # asked before, over another link
                return self._journal.read(request_id) or {"state": "lost"}
        job = self._jobs[request_id] = _Job(begun, entry)
        work = lambda: self._carry_out(job, act, run, arguments)  # noqa: E731
        job.thread = threading.Thread(target=work, name=f"act-{name}", daemon=True)
        job.thread.start()
        job.ended.wait(AT_ONCE)
        self._forget()
        return self._state(request_id)

    def state(self, head: Mapping[str, Any]) -> Json:
        """What became of a request. With `settle`, one that did not arrive is never begun."""
        request_id = head.get("id")
        if not is_request_id(request_id):
            return {"error": "a request needs an id"}
        assert isinstance(request_id, str)
        if request_id in self._jobs:
            return self._state(request_id)
        if head.get("settle") is True:
            try:
                return self._journal.settle(request_id)
            except UserError as error:
                return _refused(error)
        return self._journal.read(request_id) or {"state": "unknown"}

    def cancel(self, head: Mapping[str, Any]) -> Json:
        """Ask for the end of a request, which may be another program's."""
        request_id = head.get("id")
        if not is_request_id(request_id):
            return {"error": "a request needs an id"}
        assert isinstance(request_id, str)
        job = self._jobs.get(request_id)
        if job is not None:
            job.cancelled.set()
        else:
            self._journal.cancel(request_id)
        return {}

    def finish(self) -> None:
        """Wait for what changes something, however long it takes."""
        for job in self._jobs.values():
            # One that a signal kept from beginning would never end.
            if job.entry is not None and job.thread is not None and job.thread.is_alive():
                job.ended.wait()

    def _state(self, request_id: str) -> Json:
        return self._jobs[request_id].state

    def _carry_out(self, job: _Job, act: Act, run: str, arguments: Json) -> None:
        if job.entry is not None:
            threading.Thread(target=self._watch, args=(job,), name="act-end", daemon=True).start()
        begun = job.state

        def tell(progress: Json) -> None:
            job.state = {**begun, "progress": progress}
            now = time.monotonic()
            if job.entry is not None and now - job.told_at >= _PROGRESS:
                job.told_at = now
                job.entry.write(job.state)

        try:
            result = act.do(Call(run, arguments, tell, job.cancelled))
            if len(json.dumps(result)) > _MOST:
                raise UserError("The answer is too long to be sent; act on the host itself.")
            outcome: Json = {"state": "done", "result": result}
        except UserError as error:
            outcome = _refused(error)
        except OSError as error:
            outcome = _refused(UserError(f"It failed: {one_line(error, 300)}."))
        except Exception as error:  # the host goes on; whatever it is, it must be told
            outcome = _refused(UserError(f"It failed: {one_line(repr(error), 300)}."))
        job.state = outcome
        if job.entry is not None:
            job.entry.write(outcome)
            job.entry.close()
        job.ended.set()

    def _watch(self, job: _Job) -> None:
        """A program on another link may have asked for the end, which is a file."""
        assert job.entry is not None
        while not job.ended.wait(_LOOK):
            if job.entry.is_cancelled:
                job.cancelled.set()

    def _forget(self) -> None:
        ended = [one for one, job in self._jobs.items() if job.ended.is_set()]
        for one in ended[: max(0, len(self._jobs) - _REMEMBERED)]:
            with contextlib.suppress(KeyError):
                del self._jobs[one]


def _refused(error: UserError) -> Json:
    return {
        "state": "refused",
        "problem": one_line(error, 1000),
        "code": int(error.exit_code),
    }
