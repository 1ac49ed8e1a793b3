"""Opening the judge of Python: the sandbox is started."""

from __future__ import annotations

from trainer.rewards.python.language import Python
from trainer.sandbox.sandbox import Sandbox


def open_language(*, run_tests: bool | None, parallel: int | None) -> Python:
    """A judge of Python. Raises RunError where there is no sandbox."""
    sandbox = Sandbox(parallel=parallel, allow_unsandboxed=run_tests is True)
    runs_tests = run_tests is not False and sandbox.may_execute
    return Python(sandbox, runs_tests=runs_tests)
