"""Exit codes are an interface: scripts and schedulers read them."""

from __future__ import annotations

from shared.errors import ExitCode, RunError, UserError
from shared.ownership.lock import LockHeldError


def test_exit_codes() -> None:
    assert [int(code) for code in ExitCode] == [0, 1, 2, 75]
    assert UserError("x").exit_code == 2
    assert RunError("x").exit_code == 1
    assert LockHeldError("run", None).exit_code == 2
    assert isinstance(RunError("x"), UserError)
