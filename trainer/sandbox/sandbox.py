"""The sandbox's door: works in, outcomes out."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType

from shared.errors import RunError
from trainer.sandbox.interface import ExecutionRefusedError, Outcome, Work
from trainer.sandbox.launcher_process import LauncherProcess

GRACE_SECONDS = 60.0  # for a busy machine


class Sandbox:
    """Runs programs with few rights, `parallel` of them at once (by default one per core).

    `layers` says what protects the machine. With `allow_unsandboxed`, generated code is executed
    even where a layer that this needs is missing. Works that a dying launcher had are tried
    `retries` more times. `refused` turns layers off, and `grace` is the launcher's time to answer,
    for tests. Several threads may use one. Raises RunError if its
    launcher cannot be started.
    """

    def __init__(
        self,
        *,
        parallel: int | None = None,
        allow_unsandboxed: bool = False,
        refused: Sequence[str] = (),
        grace: float = GRACE_SECONDS,
        retries: int = 1,
    ) -> None:
        if sys.platform != "linux":
            raise RunError(f"Judging code needs Linux: this is {sys.platform}.")
        self.parallel = parallel or len(os.sched_getaffinity(0))
        self._allow_unsandboxed = allow_unsandboxed
        self._refused = tuple(refused)
        self._grace = grace
        self._retries = retries
        self._lock = threading.Lock()
        self._closed = False
        self._launcher = self._start()
        self.layers = self._launcher.layers

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def may_execute(self) -> bool:
        """Whether generated code is executed: the layers suffice, or it was allowed without."""
        return self._allow_unsandboxed or self.layers.lacking is None

    def check_execution(self) -> None:
        """Raise ExecutionRefusedError, a UserError, unless generated code may be executed."""
        if not self.may_execute:
            raise ExecutionRefusedError(self.layers.lacking or "")

    def run(self, work: Work) -> Outcome:
        """Run one work. Raises ExecutionRefusedError; all else that goes wrong is an outcome."""
        return self.run_many([work])[0]

    def run_many(self, works: Sequence[Work]) -> list[Outcome]:
        """The outcomes of works, in their order; up to `parallel` of them run at once.

        If the launcher dies, the works it had are tried again, one by one, for one of them may be
        the cause. What is lost again is a failure; the next works get a new launcher.
        """
        if any(work.executes_generated_code for work in works):
            self.check_execution()
        outcomes = self._run(works)
        for _ in range(self._retries):
            for place, outcome in enumerate(outcomes):
                if outcome.lost and not self._closed:
                    (outcomes[place],) = self._run([works[place]])
        return outcomes

    def _run(self, works: Sequence[Work]) -> list[Outcome]:
        submitted: list[tuple[LauncherProcess | None, Future[Outcome]]] = []
        for work in works:
            # Where no launcher starts, the next one would not either, after as long a wait.
            without = bool(submitted) and submitted[-1][0] is None
            submitted.append(submitted[-1] if without else self._submit(work))
        return [
            launcher.wait(future) if launcher else future.result() for launcher, future in submitted
        ]

    def close(self) -> None:
        """End the launcher and whatever runs. Does nothing the second time."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._launcher.close()

    @property
    def launcher_pid(self) -> int:
        """The id of the launcher's process."""
        return self._launcher.pid

    @property
    def workplace(self) -> Path:
        """The folder that holds its work folders."""
        return self._launcher.workplace

    def _submit(self, work: Work) -> tuple[LauncherProcess | None, Future[Outcome]]:
        with self._lock:
            if self._closed:
                raise RuntimeError("The sandbox is closed.")
            if not self._launcher.alive:
                try:
                    self._restart()
                except RunError as error:
                    failed: Future[Outcome] = Future()
                    # Not lost: no work is the cause, and none may be judged by it.
                    failed.set_result(Outcome(failure=str(error)))
                    return None, failed
            launcher = self._launcher
        return launcher, launcher.submit(work)

    def _restart(self) -> None:
        self._launcher.close()
        launcher = self._start()
        if self.layers.lacking is None and launcher.layers.lacking is not None:
            launcher.close()
            raise RunError(f"A new launcher of the sandbox has {launcher.layers.lacking}.")
        self._launcher = launcher

    def _start(self) -> LauncherProcess:
        return LauncherProcess(self.parallel, self._refused, self._grace)
