"""One work in the launcher's hands: started, watched, ended, read."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from trainer.sandbox.launcher import filesystem, frames, inside, orphans, system, watch
from trainer.sandbox.launcher import plan as layers
from trainer.sandbox.launcher.plan import Order, Plan
from trainer.sandbox.launcher.workplace import Workplace


class Job:
    """A work that runs. `pidfd` becomes readable when it has ended."""

    def __init__(self, id_: int, order: Order, plan: Plan, workplace: Workplace) -> None:
        self.id = id_
        self._order = order
        self._plan = _fitting(plan, order)
        self._workplace = workplace
        self._folder = workplace.new_folder()
        self._exceeded: str | None = None
        self._fds: list[int] = []
        self.pid = -1
        try:
            self._start()
        except BaseException:
            self._close()
            if self.pid > 0:  # it ends by itself: nobody can tell it to begin any more
                os.waitpid(self.pid, 0)
            raise

    def _start(self) -> None:
        nothing = self._keep(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        self._result = self._keep(os.memfd_create("result"))
        self._output, output = map(self._keep, self._workplace.new_file())
        self._errors, errors = map(self._keep, self._workplace.new_file())
        start, go = map(self._keep, os.pipe())
        self.started = time.monotonic()
        self.deadline = self.started + self._order.limits["wall_seconds"]
        self.pid = system.fork(self._plan.flags)
        if self.pid == 0:
            open_ = inside.Descriptors(nothing, output, errors, self._result, start)
            inside.run(self._order, self._plan, self._folder, open_)
            os._exit(inside.FAILED)
        self.pidfd = self._keep(os.pidfd_open(self.pid))
        self._trouble = self._name_users()
        if self._trouble is None:
            os.write(go, b"1")
        os.close(go)  # else the process ends at once
        self._fds.remove(go)

    def _keep(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _name_users(self) -> tuple[str, str] | None:
        """Write the user namespace's map; the layer and the reason if that fails."""
        if "user namespace" not in self._plan:
            return None
        own = layers.OWN_USER in self._plan
        nobody = f"{layers.NOBODY} {layers.NOBODY} 1\n" if own else ""
        user, group = os.geteuid(), os.getegid()
        try:
            if not own:
                _write(f"/proc/{self.pid}/setgroups", "deny")
            _write(f"/proc/{self.pid}/uid_map", f"{user} {user} 1\n{nobody}")
            _write(f"/proc/{self.pid}/gid_map", f"{group} {group} 1\n{nobody}")
        except OSError as error:
            layer = layers.OWN_USER if own else "user namespace"
            return layer, f"{error.filename or 'its map'}: {error.strerror}"
        return None

    def check(self) -> None:
        """End the work if it uses more than it may."""
        if time.monotonic() >= self.deadline:
            self.kill("time")
        elif found := watch.excess(self.pid, self._order.limits):
            self.kill(found)

    def kill(self, exceeded: str | None = None) -> None:
        """End the work and all it started; because it used too much of something, perhaps."""
        self._exceeded = self._exceeded or exceeded
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def finish(self, living: Callable[[], set[int]]) -> tuple[dict[str, Any], bytes]:
        """Reap the ended work, remove its folder, and say how it ended.

        `living` gives the processes of the other works: where there is no pid namespace, orphans
        of this one may have become the launcher's children beside them.
        """
        wall = time.monotonic() - self.started
        _, _, usage = os.wait4(self.pid, 0)
        if "pid namespace" not in self._plan:
            orphans.end_all(spared=living() - {self.pid})
        most = self._order.limits["file_bytes"]
        header: dict[str, Any] = {"files": []}
        body = b""
        if self._trouble is not None:
            header["layer"], header["failure"] = self._trouble
        else:
            found = _read(self._result, None)
            try:
                (told, body), *_ = frames.Frames().feed(found)
                header |= told
            except ValueError:
                if self._exceeded is None:
                    header["failure"] = "its first process was killed"
        output, errors = _read(self._output, most), _read(self._errors, most)
        if self._out_of_cpu(header):
            self._exceeded = self._exceeded or "time"
        header |= {
            "id": self.id,
            "exceeded": self._exceeded,
            "wall_seconds": wall,
            "sizes": [len(output), len(errors)],
        }
        header.setdefault("cpu_seconds", usage.ru_utime + usage.ru_stime)
        self._close()
        return header, output + errors + body

    def _out_of_cpu(self, header: dict[str, Any]) -> bool:
        if header.get("signal") == signal.SIGXCPU:
            return True
        used = header.get("cpu_seconds", 0.0)
        return header.get("signal") == signal.SIGKILL and used >= self._order.limits["cpu_seconds"]

    def _close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        self._workplace.remove_folder(self._folder)


def _fitting(plan: Plan, order: Order) -> Plan:
    """The plan, without the user nobody if that may not enter where the program is.

    Root's toolchains often lie in a home that nobody else may enter. In a root folder of its own
    a work gets around that; without one it has to stay root, whose processes the kernel does not
    count.
    """
    if layers.OWN_USER not in plan or "mount namespace" in plan:
        return plan
    if all(map(filesystem.is_open_to_all, [*order.command[:1], *order.readable])):
        return plan
    return plan.without(layers.OWN_USER)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _read(fd: int, most: int | None) -> bytes:
    """The first `most` bytes of a file in memory."""
    size = os.fstat(fd).st_size
    left = size if most is None else min(size, most)
    parts, at = [], 0
    while left:
        part = os.pread(fd, left, at)
        if not part:
            break
        parts.append(part)
        at += len(part)
        left -= len(part)
    return b"".join(parts)
