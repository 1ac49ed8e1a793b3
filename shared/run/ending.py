"""How a run ended, by the exception that its program ended with."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import UserError
from shared.text import one_line


@dataclass(frozen=True)
class Ending:
    """A status, an exit code, the reason. `is_fault`: the traceback belongs into the log."""

    status: str
    code: int = 0
    reason: str = ""
    is_fault: bool = False


def ending_of(error: BaseException | None) -> Ending:
    """Completed, cancelled by Ctrl-C, or failed with the exception's last line as the reason."""
    if error is None or (isinstance(error, SystemExit) and error.code in (0, None)):
        return Ending("completed")
    if isinstance(error, KeyboardInterrupt):
        return Ending("cancelled", 130, "interrupted from the keyboard")
    reason = one_line(f"{type(error).__name__}: {error}", 500)
    told = isinstance(error, (UserError, SystemExit))
    return Ending("failed", _exit_code(error), reason, is_fault=not told)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, UserError):
        return error.exit_code
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 1
