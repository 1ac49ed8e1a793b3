"""The launcher's loop: orders come in on standard input, outcomes go out on standard output."""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
from collections import deque
from typing import Any

from trainer.sandbox.launcher import frames, landlock, layers, system, watch
from trainer.sandbox.launcher import plan as plans
from trainer.sandbox.launcher.job import Job
from trainer.sandbox.launcher.plan import Order
from trainer.sandbox.launcher.workplace import Workplace

_CHUNK = 1 << 20


class Launcher:
    """Runs orders, at most `parallel` at once."""

    def __init__(self, parallel: int, parent: int, refused: frozenset[str]) -> None:
        self._parallel = parallel
        self._parent = parent
        self._frames = frames.Frames()
        self._waiting: deque[tuple[int, Order]] = deque()
        self._running: dict[int, Job] = {}  # by pidfd
        self._next_look = 0.0
        self._selector = selectors.DefaultSelector()
        self.workplace = Workplace()
        self._plan, missing = layers.find(self.workplace, refused)
        found = {plans.LANDLOCK: landlock.version()} if plans.LANDLOCK in self._plan else {}
        active = [*plans.ALWAYS, *(name for name in _ORDER if name in self._plan)]
        hello = {
            "active": active,
            "missing": missing,
            "versions": found,
            "workplace": self.workplace.path,
        }
        self._send(hello, b"")

    def serve(self) -> None:
        """Work until standard input or the parent ends."""
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        self._selector.register(self._parent, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select(self._patience()):
                if key.fd == self._parent:
                    return
                if key.fd == sys.stdin.fileno():
                    if not self._receive():
                        return
                else:
                    self._finish(key.fd)
            self._look()
            self._start_waiting()

    def close(self) -> None:
        """End all works and remove their folders."""
        for job in self._running.values():
            job.kill()
        for job in list(self._running.values()):
            job.finish(self._pids)
        self.workplace.close()

    def _patience(self) -> float | None:
        if not self._running:
            return None
        first = min(job.deadline for job in self._running.values())
        return max(0.0, min(first, self._next_look) - time.monotonic())

    def _receive(self) -> bool:
        data = os.read(sys.stdin.fileno(), _CHUNK)
        for header, body in self._frames.feed(data):
            files = frames.unpack_files(header["files"], body)
            order = Order(
                command=header["command"],
                environment=header["environment"],
                files=files,
                outputs=header["outputs"],
                readable=header["readable"],
                limits=header["limits"],
            )
            self._waiting.append((header["id"], order))
        return bool(data)

    def _start_waiting(self) -> None:
        while self._waiting and len(self._running) < self._parallel:
            id_, order = self._waiting.popleft()
            try:
                job = Job(id_, order, self._plan, self.workplace)
            except OSError as error:
                self._send({"id": id_, "failure": f"the sandbox cannot start: {error}"}, b"")
                continue
            self._running[job.pidfd] = job
            self._selector.register(job.pidfd, selectors.EVENT_READ)

    def _finish(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        job = self._running.pop(pidfd)
        self._send(*job.finish(self._pids))

    def _look(self) -> None:
        """End the works that use more than they may."""
        now = time.monotonic()
        if now < self._next_look and all(now < job.deadline for job in self._running.values()):
            return
        self._next_look = now + watch.SECONDS
        for job in self._running.values():
            job.check()
            job.deadline = max(job.deadline, self._next_look)  # its end is an event

    def _pids(self) -> set[int]:
        return {job.pid for job in self._running.values()}

    @staticmethod
    def _send(header: dict[str, Any], body: bytes) -> None:
        message = memoryview(frames.pack(header, body))
        while message:
            message = message[os.write(sys.stdout.fileno(), message) :]


_ORDER = (*plans.NAMESPACES, plans.OWN_USER, plans.LANDLOCK, plans.SECCOMP)


def main(arguments: list[str]) -> None:
    """Serve as the settings in `arguments[0]`, JSON, say."""
    settings = json.loads(arguments[0])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Not the kernel's signal at a parent's death: it comes when the thread that started us ends.
    parent = os.pidfd_open(settings["parent"])
    if os.getppid() != settings["parent"]:
        return
    system.adopt_orphans()
    launcher = Launcher(settings["parallel"], parent, frozenset(settings["refused"]))
    try:
        launcher.serve()
    except BrokenPipeError:
        pass
    finally:
        launcher.close()
