"""A preempted run in a Slurm job: the job is put back into Slurm's queue."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from shared.errors import UserError
from shared.run.directory import RunDirectory
from shared.text import one_line

TIMEOUT = 30.0  # seconds that Slurm may take to answer
#: What a scheduler sends before it takes the machine away. Ctrl-C is a person's wish to stop.
PREEMPTIONS = frozenset({"SIGTERM", "SIGUSR1"})


def requeue(run: RunDirectory, received: str | None, environment: Mapping[str, str]) -> None:
    """Ask Slurm to start this job again, if `received` is a signal of preemption in one.

    A daemon's worker is left to the daemon. A failure is told in the run's log and events.
    """
    job = environment.get("SLURM_JOB_ID")
    if not job or received not in PREEMPTIONS or environment.get("TRAINER_SUPERVISED"):
        return
    problem = _ask_slurm(job)
    _tell(run, problem or f"Slurm starts job {one_line(job, 40)} again", failed=bool(problem))


def _ask_slurm(job: str) -> str:
    """Why the job could not be requeued; empty if it was."""
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        why = f"scontrol has not answered within {TIMEOUT:.0f} s"
    except OSError as error:
        why = f"scontrol cannot be run: {error.strerror}"
    else:
        if done.returncode == 0:
            return ""
        said = one_line(done.stderr.strip() or done.stdout.strip(), 200)
        why = f"scontrol ended with exit code {done.returncode}: {said}"
    return f"Slurm job {one_line(job, 40)} was not requeued: {why}"


def _tell(run: RunDirectory, message: str, *, failed: bool) -> None:
    from shared.files import AppendLog
    from trainer.daemon.run_record import RunRecord

    line = f"[{'WARN' if failed else 'INFO'}] {message}"
    print(line, flush=True)
    try:
        with RunRecord(run) as record:
            if failed:
                record.event("warning", message=message)
            log = AppendLog(run.log_path)
            log.append(line.encode())
            log.close()
    except (UserError, OSError):
        return  # the run is saved, and somebody else has it already; the console has told
