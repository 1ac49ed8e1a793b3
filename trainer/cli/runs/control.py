"""`trainer pause`, `continue`, `checkpoint` and `stop`: requests to running trainers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import RunError, UserError
from shared.text import one_line
from trainer.cli import options
from trainer.cli.runs.place import all_runs

if TYPE_CHECKING:
    from shared.control.client import Answer, Asked
    from shared.control.daemons import DaemonView
    from shared.control.waiting import Patience
    from shared.run.directory import RunDirectory


def _ask(reference: str, runs_dir: Path, action: str) -> int:
    """Send a request to a running trainer and wait for its answer."""
    from shared.control import client
    from shared.ownership.health import observe
    from shared.run.finding import find_run
    from shared.run.records import RunState

    run = find_run(runs_dir, reference)
    health = observe(run, run.read_state() or RunState())
    if not health.alive:
        raise UserError(f"Run {run.run_id} is {health.status}: no process to {action} it.")
    _print_answer(run, client.ask(run, action).wait())
    return 0


def _print_answer(run: RunDirectory, answer: Answer | None) -> None:
    """Print an answer. Raises RunError when the request was refused."""
    assert answer is not None
    if not answer.ok:
        raise RunError(f"{run.run_id}: {answer.message}.")
    typer.echo(f"{one_line(run.run_id)}: {answer.message}")


def pause(run: options.RunArgument, runs_dir: options.RunsDirOption = options.RUNS_DIR) -> int:
    """Pause a run after its current step."""
    return _ask(run, runs_dir, "pause")


def continue_(run: options.RunArgument, runs_dir: options.RunsDirOption = options.RUNS_DIR) -> int:
    """Continue a paused run."""
    return _ask(run, runs_dir, "resume")


def checkpoint(run: options.RunArgument, runs_dir: options.RunsDirOption = options.RUNS_DIR) -> int:
    """Save a checkpoint of a run now."""
    return _ask(run, runs_dir, "checkpoint")


# -- stop --------------------------------------------------------------------------------------


def stop(
    run: Annotated[str | None, options.RUN] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Stop every run that is training, paused, waiting or queued."),
    ] = False,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
) -> int:
    """Stop a run after its current step and save a checkpoint, or take it out of the queue."""
    from shared.run.finding import find_run

    if everything and run is not None:
        raise UserError(f"{one_line(run)!r} and --all are both given; name one run, or all.")
    if run is not None:
        return stop_runs([find_run(runs_dir, run)], named=True)
    if not everything:
        raise UserError("Nothing to stop: name a run, or give --all.")
    return stop_runs(all_runs(runs_dir), named=False)


def stop_runs(runs: list[RunDirectory], *, named: bool) -> int:
    """Send all requests, then wait for every answer; returns 1 when a run did not stop.

    `named`: the run was named, so it is an error if it cannot be stopped.
    """
    from shared.control.daemons import watching
    from shared.control.waiting import Patience

    patience = Patience()
    daemons = {place: watching(place) for place in {run.path.parent for run in runs}}
    asked: list[_Stop] = []
    failures = 0
    for stop in [_Stop(run, daemons[run.path.parent], patience) for run in runs]:
        with _one_of_several(named=named) as failed:
            if stop.ask(named=named):
                asked.append(stop)
        failures += len(failed)
    if not asked and not failures:
        typer.echo("no run is training, waiting or queued")
    deadline = patience.clock() + patience.timeout
    for stop in asked:
        with _one_of_several(named=named) as failed:
            stop.wait(deadline)
        failures += len(failed)
    return 1 if failures else 0


@contextlib.contextmanager
def _one_of_several(*, named: bool) -> Iterator[list[UserError]]:
    """Print what goes wrong with one run of several; raise it when the run was named."""
    failed: list[UserError] = []
    try:
        yield failed
    except UserError as error:
        if named:
            raise
        failed.append(error)
        typer.echo(one_line(error, 500), err=True)


class _Stop:
    """Stops one run."""

    def __init__(self, run: RunDirectory, daemons: list[DaemonView], patience: Patience) -> None:
        self._run = run
        self._daemons = daemons
        self._patience = patience
        self._asked: Asked | None = None

    def ask(self, *, named: bool) -> bool:
        """Send the request, or take the run out of the queue; False when there is nothing to stop.

        Raises UserError instead when the run was `named`.
        """
        from shared.control.daemons import care_of, find_daemons, would_start
        from shared.control.launch import START_TIMEOUT
        from shared.ownership.health import observe
        from shared.run.records import RunState

        run = self._run
        state = run.read_state() or RunState()
        health = observe(run, state)
        begun = state.updated_at or state.started_at or 0.0
        # Its detached trainer never started.
        abandoned = 0 < begun < time.time() - START_TIMEOUT
        queued = state.status == "queued" and (state.supervised or abandoned)
        supervised = care_of(self._daemons, run.run_id) is not None
        if health.alive or supervised or (queued and self._daemons):
            self._leave_request()
            return True
        # A daemon that ended may have supervised it: the next daemon would start it.
        waits = state.status not in ("completed", "cancelled") and would_start(
            find_daemons(run.path.parent), run.run_id
        )
        if queued or waits:
            self._cancel()
            return True
        if named:
            raise UserError(f"Run {run.run_id} is {health.status}: no process to stop it.")
        return False

    def _leave_request(self) -> Asked:
        from shared.control import client

        self._asked = client.ask(self._run, "stop", patience=self._patience)
        return self._asked

    def _cancel(self) -> None:
        """Record in the run that it is cancelled: there is no daemon to do it."""
        from shared.control.idle_run import IdleRun

        try:
            with IdleRun(self._run) as idle:
                idle.end("cancelled", 0, "taken out of the queue by trainer stop")
        except OSError as error:
            raise RunError(f"Cannot write in {self._run.path}: {error.strerror}.") from error

    def wait(self, deadline: float) -> None:
        """Wait until the run has ended. Raises RunError when it does not."""
        from shared.control.client import wait_until_ended

        name = one_line(self._run.run_id)
        if self._asked is None:
            typer.echo(f"{name}: cancelled")
            return
        answer = self._asked.wait(by_daemon=True)
        while answer is not None and not answer.ok and self._is_supervised():
            # The run was preempted or crashed at the same moment, so the daemon would restart it.
            answer = self._leave_request().wait(by_daemon=True)
        _print_answer(self._run, answer)
        # So that the next command finds the run free.
        left = max(0.0, deadline - self._patience.clock())
        ended = wait_until_ended(self._run, replace(self._patience, timeout=left))
        if ended is not None:
            typer.echo(f"{name}: {ended.status}")

    def _is_supervised(self) -> bool:
        from shared.control.daemons import care_of, watching

        return care_of(watching(self._run.path.parent), self._run.run_id) is not None
