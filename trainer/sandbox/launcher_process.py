"""The launcher as the trainer sees it: works go in, outcomes come out, whatever happens to it."""

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
from typing import Any

from shared.errors import RunError
from trainer.sandbox.interface import Layers, Outcome, Work
from trainer.sandbox.launcher import frames

_SCRIPT = Path(__file__).parent / "launcher" / "__main__.py"
_START_SECONDS = 120.0  # on a busy machine
_END_SECONDS = 10.0
_CHUNK = 1 << 20
_KEPT = ("LD_LIBRARY_PATH",)  # of our environment; some interpreters do not start without


class LauncherProcess:
    """A launcher, and a thread that reads its answers.

    `grace` is how many seconds beyond the longest time limit it may be silent while it has work to
    do. Raises RunError if it does not start.
    """

    def __init__(self, parallel: int, refused: Sequence[str], grace: float) -> None:
        settings = {"parallel": parallel, "refused": list(refused), "parent": os.getpid()}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SCRIPT), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
        self.pid = self._process.pid
        self._grace = grace
        self._writing = threading.Lock()
        self._lock = threading.Lock()  # of the fields below
        self._pending: dict[int, tuple[Future[Outcome], float]] = {}
        self._number = 0
        self._heard = time.monotonic()
        self._failure: str | None = None
        self.workplace = Path()
        hello: Future[Layers] = Future()
        self._reader = threading.Thread(
            target=self._read, args=(hello,), name="sandbox", daemon=True
        )
        self._reader.start()
        try:
            self.layers = hello.result(_START_SECONDS)
        except BaseException as error:
            self._process.kill()
            self.close()
            if isinstance(error, TimeoutError):
                raise RunError("The sandbox's launcher does not start.") from None
            raise

    @property
    def alive(self) -> bool:
        """Whether it takes works."""
        return self._failure is None and self._process.poll() is None

    def submit(self, work: Work) -> Future[Outcome]:
        """Queue a work."""
        future: Future[Outcome] = Future()
        with self._lock:
            if self._failure is not None:
                future.set_result(Outcome(failure=self._failure, lost=True))
                return future
            if not self._pending:
                self._heard = time.monotonic()
            self._number += 1
            number = self._number
            self._pending[number] = (future, work.limits.wall_seconds)
        self._write(_message(number, work))
        return future

    def wait(self, future: Future[Outcome]) -> Outcome:
        """The outcome of a submitted work. A launcher that is silent for too long is killed."""
        while True:
            with self._lock:
                longest = max((seconds for _, seconds in self._pending.values()), default=0.0)
                until = self._heard + longest + self._grace
            try:
                return future.result(max(0.0, until - time.monotonic()))
            except TimeoutError:
                with self._lock:
                    heard_again = self._heard + longest + self._grace > until
                if not heard_again and not future.done():
                    self._process.kill()
                    return future.result()

    def close(self) -> None:
        """End the process: at the end of its input it ends its works and tidies up."""
        process = self._process
        if self._writing.acquire(timeout=_END_SECONDS if self.alive else 0.0):
            assert process.stdin is not None
            process.stdin.close()
            self._writing.release()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join()
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()

    def _write(self, message: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        rest = memoryview(message)
        try:
            with self._writing:
                while rest:
                    rest = rest[stdin.write(rest) :]
        except (OSError, ValueError):
            pass  # the reader sees its end, too, and fails whatever is pending

    def _read(self, hello: Future[Layers]) -> None:
        cutter = frames.Frames()
        stdout = self._process.stdout
        assert stdout is not None
        reason = None
        try:
            while data := stdout.read(_CHUNK):
                for header, body in cutter.feed(data):
                    if "active" in header:
                        self.workplace = Path(header.pop("workplace"))
                        hello.set_result(Layers(**header))
                    else:
                        self._take(header, body)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._process.kill()
            reason = f"The sandbox's launcher sent what is no answer ({error})."
        reason = reason or self._last_words()
        with self._lock:
            self._failure = reason
            pending, self._pending = self._pending, {}
        for future, _ in pending.values():
            future.set_result(Outcome(failure=reason, lost=True))
        if not hello.done():
            hello.set_exception(RunError(reason))

    def _take(self, header: dict[str, Any], body: bytes) -> None:
        outcome = _outcome(header, body)
        with self._lock:
            self._heard = time.monotonic()
            future, _ = self._pending.pop(header["id"])
        future.set_result(outcome)

    def _last_words(self) -> str:
        assert self._process.stderr is not None
        said = self._process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"The sandbox's launcher ended ({how}{': ' + said[-1] if said else ''})."


def _message(number: int, work: Work) -> bytes:
    sizes, body = frames.pack_files(dict(work.files))
    header = {
        "id": number,
        "command": list(work.command),
        "environment": dict(work.environment),
        "files": sizes,
        "outputs": list(work.outputs),
        "readable": [str(path.absolute()) for path in work.readable],
        "limits": vars(work.limits),
    }
    return frames.pack(header, body)


def _outcome(header: dict[str, Any], body: bytes) -> Outcome:
    output, errors = header.get("sizes", (0, 0))
    return Outcome(
        exit_code=header.get("exit_code"),
        signal=header.get("signal"),
        exceeded=header.get("exceeded"),
        stdout=body[:output],
        stderr=body[output : output + errors],
        files=frames.unpack_files(header.get("files", []), body[output + errors :]),
        wall_seconds=header.get("wall_seconds", 0.0),
        cpu_seconds=header.get("cpu_seconds", 0.0),
        failure=header.get("failure"),
    )
