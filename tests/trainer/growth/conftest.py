"""Runs of tiny models, as the loop's tests make them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from shared.run.directory import RunDirectory, discover_runs
from tests.trainer.loop.conftest import text_data, train, trained

__all__ = ["text_data", "train", "trained"]


def killed(where: Path, training: Callable[[], object]) -> RunDirectory:
    """The run of a training that kills its own process, made in a fork."""
    pid = os.fork()
    if not pid:
        training()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 9
    (run,) = discover_runs(where)
    return run
