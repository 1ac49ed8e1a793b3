"""Runs with small real checkpoints, and a daemon that really supervises."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.control.daemons import DaemonDirectory
from shared.ownership.heartbeat import HeartbeatFile
from shared.ownership.lock import RunLock
from shared.run.directory import RunDirectory
from tests.monitor.actions.making import checkpointed_run
from tests.shared.hub.conftest import hub  # noqa: F401  (a fixture)
from tests.trainer.daemon.conftest import House, house, slow  # noqa: F401  (fixtures)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """An ended run: checkpoints of the steps 100 to 500, 200 the best, `final` shares the last."""
    return checkpointed_run(tmp_path / "runs")


Watch = Callable[[], contextlib.AbstractContextManager[None]]


@pytest.fixture
def watched(house: House) -> Iterator[Watch]:  # noqa: F811
    """While entered, the supervisor works as a daemon's does, and everybody can see that."""

    @contextlib.contextmanager
    def watch() -> Iterator[None]:
        directory = DaemonDirectory.of(house.runs_dir)
        directory.path.mkdir(parents=True, exist_ok=True)
        lock = RunLock(directory.lock_path)
        lock.acquire()
        beat = HeartbeatFile(directory.heartbeat_path)
        beat.beat()
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                beat.beat()
                house.supervisor.tick()
                over.wait(0.02)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            beat.close()
            lock.release()

    yield watch
