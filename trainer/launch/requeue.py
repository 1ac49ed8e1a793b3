"""A preempted run in a Slurm job: put the job back into Slurm's queue."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from shared.errors import UserError
from shared.run.directory import RunDirectory
from shared.text import one_line

TIMEOUT = 30.0  # seconds that Slurm may take to answer
#: What a scheduler sends before it takes the machine away. Ctrl-C means a person wants to stop.
PREEMPTIONS = frozenset({"SIGTERM", "SIGUSR1"})


def requeue(
    run: RunDirectory,
    received: str | None,
    environment: Mapping[str, str],
    timeout: float = TIMEOUT,
) -> None:
    """Ask Slurm to start this job again, if `received` is a signal that announces preemption.

    A daemon's worker is left to the daemon. The outcome goes into the run's log, a failure into its
    events too.
    """
    job = environment.get("SLURM_JOB_ID")
    if not job or received not in PREEMPTIONS or environment.get("TRAINER_SUPERVISED"):
        return
    problem = _ask_slurm(job, timeout)
    _report(run, problem or f"Slurm starts job {one_line(job, 40)} again", failed=bool(problem))


def _ask_slurm(job: str, timeout: float) -> str:
    """Why the job could not be requeued; empty if it was."""
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        why = f"scontrol has not answered within {timeout:.0f} s"
    except OSError as error:
        why = f"scontrol cannot be run: {error.strerror}"
    else:
        if done.returncode == 0:
            return ""
        said = one_line(done.stderr.strip() or done.stdout.strip(), 200)
        why = f"scontrol ended with exit code {done.returncode}: {said}"
    return f"Slurm job {one_line(job, 40)} was not requeued: {why}"


def _report(run: RunDirectory, message: str, *, failed: bool) -> None:
    from shared.control.idle_run import IdleRun
    from shared.files import AppendLog

    line = f"[{'WARN' if failed else 'INFO'}] {message}"
    print(line, flush=True)
    try:
        with IdleRun(run) as record:
            if failed:
                record.event("warning", message=message)
            log = AppendLog(run.log_path)
            log.append(line.encode())
            log.close()
    except (UserError, OSError):
        return  # the run is saved and another process owns it; the console has the message
