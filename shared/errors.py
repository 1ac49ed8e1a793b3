"""Errors that a person can act on, and the exit codes of all commands."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    REQUEUE = 75  # EX_TEMPFAIL: stopped on request, checkpoint saved, please requeue


class UserError(Exception):
    """Wrong use. The message is one sentence with the value and the remedy.

    Commands print the message on stderr without a traceback and exit with `exit_code`.
    """

    exit_code: int = ExitCode.USAGE


class RunError(UserError):
    """The request was valid but the work failed (exit code 1)."""

    exit_code: int = ExitCode.FAILURE
