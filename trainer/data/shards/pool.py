"""Processes that make shards: each does one task at a time, as lines of JSON in and out."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from shared.errors import RunError, UserError
from shared.text import one_line

_MOST_WORKERS = 1024
_SHOWN_LINES = 3
_GRACE = 5.0  # seconds a process has to end before it is killed


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def check_workers(workers: int | None) -> None:
    """Raise UserError for a number of processes or threads that is given and out of range."""
    if workers is not None and not 1 <= workers <= _MOST_WORKERS:
        raise UserError(f"--workers is {workers}: it must be between 1 and {_MOST_WORKERS}")


class Worker:
    """A process of `module`, which is given `settings` first. Its messages go to `told` with its
    number; the last one is None."""

    def __init__(
        self,
        number: int,
        module: str,
        settings: dict[str, Any],
        told: queue.Queue[tuple[int, dict[str, Any] | None]],
    ) -> None:
        self.number = number
        self.task: int | None = None
        self.said: deque[str] = deque(maxlen=_SHOWN_LINES)
        # One thread each: there are as many processes as cores.
        alone = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C must not reach it
            env=os.environ | alone,
        )
        self._told = told
        threading.Thread(target=self._listen, name=f"shards-{number}", daemon=True).start()
        self.send(settings)

    def send(self, message: dict[str, Any]) -> None:
        """Pass it a message; one that has ended is noticed elsewhere."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = None
            if line.startswith("{"):
                with contextlib.suppress(ValueError):
                    message = json.loads(line)
            if isinstance(message, dict):
                self._told.put((self.number, message))
            elif line.strip():
                self.said.append(line)
        self._told.put((self.number, None))

    def why_ended(self) -> str:
        """Why it ended although it had a task."""
        code = self.process.wait()
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            killed = "; was there too little memory?" if -code == signal.SIGKILL else ""
            return f"was ended by {name}{killed}"
        return f"ended with exit code {code}: {one_line(' '.join(self.said), 300)}"


class Pool:
    """`count` processes of `module`. Use it as a context manager: it ends them."""

    def __init__(self, module: str, count: int, settings: dict[str, Any]) -> None:
        self._told: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._workers: list[Worker] = []
        self._make = lambda number: Worker(number, module, settings, self._told)
        self._count = count

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.process.terminate()
        for worker in self._workers:
            try:
                worker.process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def run(
        self, tasks: Sequence[dict[str, Any]], update: Callable[[int], None]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The number of each task and its result, as they are done.

        `update` is called with the bytes done in all of them. Raises what a task raised, and
        RunError for a process that ended.
        """
        waiting = deque(range(len(tasks)))
        done = [0] * len(tasks)
        while len(self._workers) < min(self._count, len(tasks)):
            self._workers.append(self._make(len(self._workers)))

        def next_task(worker: Worker) -> None:
            worker.task = waiting.popleft() if waiting else None
            if worker.task is not None:
                worker.send(tasks[worker.task])

        for worker in self._workers:
            next_task(worker)
        left = len(tasks)
        while left:
            number, message = self._told.get()
            worker = self._workers[number]
            task = worker.task
            if message is None:
                raise RunError(
                    f"A process that made shards {worker.why_ended()}. Finished shards are kept: "
                    "run the same command again, with fewer --workers if memory was short."
                )
            if task is None:
                continue
            if "error" in message:
                kind = RunError if message.get("run") else UserError
                raise kind(str(message["error"]))
            if "progress" in message:
                done[task] = int(message["progress"])
                update(sum(done))
                continue
            next_task(worker)
            left -= 1
            yield task, message


class Here:
    """The same in this process, one task after the other."""

    def __init__(self, module: str, settings: dict[str, Any]) -> None:
        self._module = module
        self._settings = settings

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_error: object) -> None:
        """There is nothing to end."""

    def run(
        self, tasks: Sequence[dict[str, Any]], update: Callable[[int], None]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The number of each task and its result."""
        from trainer.data.shards.worker import perform

        maker = importlib.import_module(self._module).make(self._settings)
        before = 0
        for number, task in enumerate(tasks):
            last = before

            def told(done: int, before: int = before) -> None:
                nonlocal last
                last = before + done
                update(last)

            yield number, perform(maker, task, told)
            before = last


def open_pool(module: str, count: int, settings: dict[str, Any]) -> Pool | Here:
    """So many processes of `module`; a single one is this."""
    return Here(module, settings) if count == 1 else Pool(module, count, settings)
