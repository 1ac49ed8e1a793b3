"""The trainer's side of the sandbox: works are handed to the launcher, outcomes come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

from shared.errors import RunError
from trainer.sandbox.interface import ExecutionRefusedError, Layers, Outcome, Work
from trainer.sandbox.launcher import frames

_SCRIPT = Path(__file__).parent / "launcher" / "__main__.py"
_START_SECONDS = 120.0  # on a busy machine
_GRACE_SECONDS = 60.0  # beyond the longest time-out, for an answer
_CHUNK = 1 << 20


class Sandbox:
    """Runs programs with few rights, `parallel` of them at once (by default one per core).

    `layers` says what protects the machine. With `allow_unsandboxed`, generated code is executed
    even where a needed layer is missing. `refused` turns layers off, for tests. May be used by
    several threads. Raises RunError if its launcher cannot be started.
    """

    def __init__(
        self,
        *,
        parallel: int | None = None,
        allow_unsandboxed: bool = False,
        refused: Sequence[str] = (),
    ) -> None:
        self.parallel = parallel or len(os.sched_getaffinity(0))
        self._allow_unsandboxed = allow_unsandboxed
        self._refused = list(refused)
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
        """Run one work. Raises ExecutionRefusedError; else whatever happens is in the outcome."""
        return self.run_many([work])[0]

    def run_many(self, works: Sequence[Work]) -> list[Outcome]:
        """The outcomes of works, in their order; up to `parallel` of them run at once."""
        if any(work.executes_generated_code for work in works):
            self.check_execution()
        return [future.result() for future in [self._submit(work) for work in works]]

    def close(self) -> None:
        """End the launcher and whatever runs. Does nothing the second time."""
        with self._lock:
            self._closed = True
            self._launcher.close()

    @property
    def launcher_pid(self) -> int:
        """The id of the launcher's process."""
        return self._launcher.pid

    def _submit(self, work: Work) -> Future[Outcome]:
        with self._lock:
            if self._closed:
                raise RuntimeError("The sandbox is closed.")
            if not self._launcher.alive:
                self._launcher.close()
                try:
                    self._launcher = self._start()
                except RunError as error:
                    failed: Future[Outcome] = Future()
                    failed.set_result(Outcome(failure=str(error)))
                    return failed
            return self._launcher.submit(work)

    def _start(self) -> _Launcher:
        return _Launcher(self.parallel, self._refused)


class _Launcher:
    """A launcher's process, and a thread that reads its answers."""

    def __init__(self, parallel: int, refused: list[str]) -> None:
        settings = {"parallel": parallel, "refused": refused, "parent": os.getpid()}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SCRIPT), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
        self.pid = self._process.pid
        self._lock = threading.Lock()  # of the fields below
        self._writing = threading.Lock()
        self._pending: dict[int, tuple[Future[Outcome], float]] = {}
        self._number = 0
        self._last_answer = time.monotonic()
        self._hello: Future[Layers] = Future()
        self._failure: str | None = None
        self._reader = threading.Thread(target=self._read, name="sandbox", daemon=True)
        self._reader.start()
        try:
            self.layers = self._hello.result(_START_SECONDS)
        except TimeoutError:
            self.close()
            raise RunError("The sandbox's launcher does not start.") from None
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        return self._failure is None and self._process.poll() is None

    def submit(self, work: Work) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        with self._lock:
            if self._failure is not None:
                future.set_result(Outcome(failure=self._failure))
                return future
            self._number += 1
            number = self._number
            self._pending[number] = (future, work.limits.wall_seconds)
        sizes, body = frames.pack_files(dict(work.files))
        header = {
            "id": number,
            "command": list(work.command),
            "environment": dict(work.environment),
            "files": sizes,
            "outputs": list(work.outputs),
            "readable": [str(path) for path in work.readable],
            "limits": vars(work.limits),
        }
        try:
            with self._writing:
                assert self._process.stdin is not None
                message = memoryview(frames.pack(header, body))
                while message:
                    message = message[self._process.stdin.write(message) :]
        except (OSError, ValueError):
            pass  # the reader sees its end, too, and fails whatever is pending
        return future

    def close(self) -> None:
        """End the process: at the end of its input it ends its works and tidies up."""
        process = self._process
        assert process.stdin is not None
        with self._writing:
            process.stdin.close()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join(10.0)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        cutter = frames.Frames()
        assert self._process.stdout is not None
        try:
            while data := self._process.stdout.read(_CHUNK):
                for header, body in cutter.feed(data):
                    self._take(header, body)
        except (OSError, ValueError, KeyError) as error:
            self._process.kill()
            self._fail(f"The sandbox's launcher answered nonsense: {error}.")
        else:
            self._fail(self._last_words())

    def _take(self, header: dict[str, Any], body: bytes) -> None:
        if "active" in header:
            self._hello.set_result(Layers(tuple(header["active"]), header["missing"]))
            return
        with self._lock:
            self._last_answer = time.monotonic()
            future, _ = self._pending.pop(header["id"])
        future.set_result(_outcome(header, body))

    def _last_words(self) -> str:
        assert self._process.stderr is not None
        code = self._process.wait()
        lines = self._process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"The sandbox's launcher ended ({how}{': ' + lines[-1] if lines else ''})."

    def _fail(self, reason: str) -> None:
        with self._lock:
            self._failure = reason
            pending, self._pending = self._pending, {}
        for future, _ in pending.values():
            future.set_result(Outcome(failure=reason))
        if not self._hello.done():
            self._hello.set_exception(RunError(reason))


def _outcome(header: dict[str, Any], body: bytes) -> Outcome:
    output, errors = header.get("sizes", (0, 0))
    return Outcome(
        exit_code=header.get("exit_code"),
        signal=header.get("signal"),
        timed_out=header.get("timed_out", False),
        stdout=body[:output],
        stderr=body[output : output + errors],
        files=frames.unpack_files(header.get("files", []), body[output + errors :]),
        wall_seconds=header.get("wall_seconds", 0.0),
        cpu_seconds=header.get("cpu_seconds", 0.0),
        failure=header.get("failure"),
    )
