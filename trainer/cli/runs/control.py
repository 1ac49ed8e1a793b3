"""Runs from the outside: the requests that a trainer or a daemon answers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import RunError, UserError
from shared.text import one_line
from trainer.cli import options
from trainer.cli.runs.place import all_runs

if TYPE_CHECKING:
    from shared.control.daemons import DaemonView
    from shared.json_text import Json
    from shared.run.directory import RunDirectory

ANSWER_TIMEOUT = 120.0  # seconds: the step in progress has to end, and perhaps a save
_LOOK = 0.1  # seconds between looks for an answer
_GONE = 15.0  # seconds after which a run that died unheard is not waited for any more


def _leave(run: RunDirectory, action: str) -> str:
    """Leave a request; returns its id. Raises RunError when it cannot be written."""
    from shared.control.requests import submit

    try:
        return submit(run.control, action)
    except OSError as error:
        raise RunError(f"Cannot leave a request in {run.control}: {error.strerror}.") from error


def _answer(run: RunDirectory, request: str) -> Json | None:
    from shared.run.record_lines import read_records

    for event in read_records(run.events_path, limit=200):
        if event.get("event") == "answer" and event.get("request") == request:
            return event
    return None


def _wait_for_answer(run: RunDirectory, request: str, deadline: float) -> Json:
    """The event that answers a request. Raises RunError when none comes."""
    while True:
        event = _answer(run, request)
        if event is not None:
            return event
        if time.monotonic() >= deadline:
            raise RunError(
                f"Run {run.run_id} has not answered within {ANSWER_TIMEOUT:.0f} s; the request "
                "stays."
            )
        time.sleep(_LOOK)


def _ask(reference: str, runs_dir: Path, action: str) -> int:
    """Leave a request for a living run and wait for its answer."""
    from shared.ownership.health import observe
    from shared.run.directory import find_run
    from shared.run.records import RunState

    run = find_run(runs_dir, reference)
    health = observe(run, run.read_state() or RunState())
    if not health.alive:
        raise UserError(f"Run {run.run_id} is {health.status}: no process to {action} it.")
    request = _leave(run, action)
    event = _wait_for_answer(run, request, time.monotonic() + ANSWER_TIMEOUT)
    if not event.get("ok"):
        raise RunError(f"{run.run_id}: {event.get('message')}.")
    typer.echo(f"{one_line(run.run_id)}: {one_line(event.get('message'))}")
    return 0


def pause(run: options.RunArgument, runs_dir: options.RunsDirOption = options.RUNS_DIR) -> int:
    """Ask a run to wait after its step."""
    return _ask(run, runs_dir, "pause")


def continue_(run: options.RunArgument, runs_dir: options.RunsDirOption = options.RUNS_DIR) -> int:
    """Ask a paused run to go on."""
    return _ask(run, runs_dir, "resume")


def checkpoint(run: options.RunArgument, runs_dir: options.RunsDirOption = options.RUNS_DIR) -> int:
    """Ask a run to save a checkpoint now."""
    return _ask(run, runs_dir, "checkpoint")


# -- stop --------------------------------------------------------------------------------------


def stop(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Run id, name, path, or latest.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every run that trains, waits or is queued.")
    ] = False,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
) -> int:
    """Ask a run to finish its step, save and end; one that waits is not started any more."""
    from shared.run.directory import find_run

    if everything and run is not None:
        raise UserError(f"{one_line(run)!r} and --all are both given; name one run, or all.")
    if run is not None:
        return _stop([find_run(runs_dir, run)], told=True)
    if not everything:
        raise UserError("trainer stop needs to know what to stop: name a run, or give --all.")
    return _stop(all_runs(runs_dir), told=False)


def _stop(runs: list[RunDirectory], *, told: bool) -> int:
    """Stop `runs`: all are asked before any is waited for. `told`: one that cannot be is a mistake.

    Returns 1 when one of several did not stop.
    """
    from shared.control.daemons import watching

    daemons = {place: watching(place) for place in {run.path.parent for run in runs}}
    asked: list[_Stop] = []
    failures = 0
    for stop in [_Stop(run, daemons[run.path.parent]) for run in runs]:
        with _one_of_several(told=told) as failed:
            if stop.ask(told=told):
                asked.append(stop)
        failures += len(failed)
    if not asked and not failures:
        typer.echo("no run trains, waits or is queued")
    deadline = time.monotonic() + ANSWER_TIMEOUT
    for stop in asked:
        with _one_of_several(told=told) as failed:
            stop.wait(deadline)
        failures += len(failed)
    return 1 if failures else 0


@contextlib.contextmanager
def _one_of_several(*, told: bool) -> Iterator[list[UserError]]:
    """Tell what goes wrong with one run and let the others go on; raise it when it is the only."""
    failed: list[UserError] = []
    try:
        yield failed
    except UserError as error:
        if told:
            raise
        failed.append(error)
        typer.echo(one_line(error, 500), err=True)


class _Stop:
    """The stopping of one run."""

    def __init__(self, run: RunDirectory, daemons: list[DaemonView]) -> None:
        self._run = run
        self._daemons = daemons
        self._request = ""

    def ask(self, *, told: bool) -> bool:
        """Leave the request, or take the run out of the queue; False when there is nothing to do.

        Raises UserError then if the run was `told` by name.
        """
        from shared.control.daemons import care_of
        from shared.control.launch import START_TIMEOUT
        from shared.ownership.health import observe
        from shared.run.records import RunState

        run = self._run
        state = run.read_state() or RunState()
        health = observe(run, state)
        begun = state.updated_at or state.started_at or 0.0
        # Its detached trainer never came so far.
        abandoned = 0 < begun < time.time() - START_TIMEOUT
        queued = state.status == "queued" and (state.supervised or abandoned)
        cared = care_of(self._daemons, run.run_id) is not None
        if health.alive or cared or (queued and self._daemons):
            self._request = _leave(run, "stop")
            return True
        if queued or _was_cared_for(run):
            self._cancel()
            return True
        if told:
            raise UserError(f"Run {run.run_id} is {health.status}: no process to stop it.")
        return False

    def _cancel(self) -> None:
        """Nobody is there who would start it: its record says that nobody shall."""
        from trainer.daemon.run_record import RunRecord

        try:
            with RunRecord(self._run) as record:
                record.end("cancelled", 0, "taken out of the queue by trainer stop")
        except OSError as error:
            raise RunError(f"Cannot write in {self._run.path}: {error.strerror}.") from error

    def wait(self, deadline: float) -> None:
        """Until the run has ended. Raises RunError when it does not."""
        name = one_line(self._run.run_id)
        if not self._request:
            typer.echo(f"{name}: cancelled")
            return
        event = self._wait_for_answer(deadline)
        while not event.get("ok") and self._ask_again():
            # It was preempted or crashed in the same moment, and would be started again.
            event = self._wait_for_answer(deadline)
        if not event.get("ok"):
            raise RunError(f"{self._run.run_id}: {event.get('message')}.")
        typer.echo(f"{name}: {one_line(event.get('message'))}")
        status = self._wait_for_end(deadline)
        if status:
            typer.echo(f"{name}: {status}")

    def _wait_for_answer(self, deadline: float) -> Json:
        """The answer, or none when the run died and no daemon is there to give one."""
        from shared.control.daemons import watching
        from shared.ownership.health import observe
        from shared.run.records import RunState

        gone_since: float | None = None
        while True:
            try:
                return _wait_for_answer(self._run, self._request, time.monotonic())
            except RunError:
                now = time.monotonic()
                if now >= deadline:
                    raise
            alive = observe(self._run, self._run.read_state() or RunState()).alive
            if alive or watching(self._run.path.parent):
                gone_since = None
            else:
                gone_since = gone_since or now
                if now - gone_since > _GONE:
                    raise RunError(f"{self._run.run_id} ended without an answer.")
            time.sleep(_LOOK)

    def _ask_again(self) -> bool:
        from shared.control.daemons import care_of, watching

        if care_of(watching(self._run.path.parent), self._run.run_id) is None:
            return False
        self._request = _leave(self._run, "stop")
        return True

    def _wait_for_end(self, deadline: float) -> str:
        """Until the trainer has saved and gone, so that the next command finds the run free."""
        from shared.ownership.health import observe
        from shared.run.records import RunState

        while time.monotonic() < deadline:
            state = self._run.read_state() or RunState()
            if not observe(self._run, state).alive:
                return state.status
            time.sleep(_LOOK)
        return ""


def _was_cared_for(run: RunDirectory) -> bool:
    """Whether a daemon that is gone had `run` under its care: its successor would start it."""
    from shared.control.daemons import find_daemons
    from shared.files import read_json
    from shared.ownership.health import observe
    from shared.run.records import RunState

    state = run.read_state() or RunState()
    if state.status in ("completed", "cancelled") or observe(run, state).alive:
        return False
    for daemon in find_daemons(run.path.parent):
        care = (read_json(daemon.directory.care_path) or {}).get("runs")
        if isinstance(care, dict) and run.run_id in care:
            return True
    return False
